//! The OpenAPI document: it is the one in the repository, and the service is as it says. `.ci/schema` has
//! schemathesis say the same of many more requests.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use crate::door::ENDPOINTS;
use crate::test_app::{TestApp, request};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/openapi.json");

fn paths(app: &TestApp) -> Map<String, Value> {
    app.get("/openapi.json").json()["paths"].as_object().unwrap().clone()
}

/// The one file that a test may write: with `REWRITE_OPENAPI=1`, so that a change of the API is seen in review.
#[test]
fn the_document_is_the_one_in_the_repository() {
    let answer = TestApp::start().get("/openapi.json");
    assert_eq!((answer.status, answer.headers["content-type"].as_str()), (200, "application/json"));
    assert_eq!(answer.json()["openapi"], "3.1.0");
    if std::env::var_os("REWRITE_OPENAPI").is_some() {
        std::fs::write(FILE, &answer.body).unwrap();
    }
    let file = std::fs::read_to_string(FILE).unwrap();
    assert!(
        answer.body == file,
        "REWRITE_OPENAPI=1 cargo test -p api --test it openapi, then look at the diff"
    );
}

#[test]
fn every_endpoint_is_described_and_nothing_else_is() {
    let app = TestApp::start();
    let mut described = BTreeSet::new();
    for (path, item) in &paths(&app) {
        let methods: Vec<String> = item.as_object().unwrap().keys().map(|m| m.to_uppercase()).collect();
        for method in ["GET", "POST", "PUT", "DELETE", "PATCH"] {
            if methods.iter().any(|m| m == method) {
                described.insert((method, path.clone()));
            } else {
                let answer = app.ask(&request(method, path, &[], b""));
                assert_eq!(answer.status, 405, "{method} {path}");
                let allow = answer.headers["allow"].replace(", HEAD", "");
                assert_eq!(allow, methods.join(", "), "{path}");
            }
        }
    }
    let path = |target: &str| target.split('?').next().unwrap().to_owned();
    assert_eq!(described, ENDPOINTS.map(|(method, target, _)| (method, path(target))).into());
}

#[test]
fn every_example_holds() {
    let app = TestApp::start();
    let paths = paths(&app);
    let example = |content: &Value| content["content"]["application/json"]["example"].clone();

    let webhook = &paths["/webhook"]["post"];
    let body = example(&webhook["requestBody"]).to_string();
    let unsigned = app.post(&[], body.as_bytes());
    let invalid = app.receive(b"{}");
    let received = app.receive(body.as_bytes());
    for (status, answer) in [("401", unsigned), ("422", invalid), ("200", received)] {
        let response = &webhook["responses"][status];
        assert_eq!((answer.status.to_string().as_str(), answer.json()), (status, example(response)));
        for header in response["headers"].as_object().unwrap().keys() {
            assert!(answer.headers.contains_key(header), "{header}: {answer:?}");
        }
    }

    for path in ["/messages", "/stats", "/health/live", "/health/ready"] {
        assert_eq!(app.get(path).json(), example(&paths[path]["get"]["responses"]["200"]), "{path}");
    }

    let parameters = paths["/messages"]["get"]["parameters"].as_array().unwrap();
    for parameter in parameters {
        let schema = &parameter["schema"];
        let schema = schema["anyOf"].get(0).unwrap_or(schema);
        let value = schema["examples"].get(0).unwrap_or(&schema["default"]);
        let value = value.as_str().map_or_else(|| value.to_string(), |text| text.replace('+', "%2B"));
        let target = format!("/messages?{}={value}", parameter["name"].as_str().unwrap());
        assert_eq!(app.get(&target).json()["total"], json!(1), "{target}");
    }
}
