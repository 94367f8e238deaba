//! The description of the API: an OpenAPI 3.1 document. The routes say what they are asked and answer if all
//! goes well, with the structs that are serialised; what they answer else is asked of the errors.

mod errors;
pub(crate) mod parameters;

use std::sync::LazyLock;

use utoipa::OpenApi as _;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{Header, OpenApi, Ref, RefOr};

use crate::middleware::observe::REQUEST_ID;
use crate::router::Described;

const DESCRIPTION: &str = "\
A durable inbox for webhooks: verifies, stores each message exactly once, and answers 200 only when it is on disk.

Each GET is a HEAD, too. Another method is answered 405 with `Allow`, another path 404, both with an `Error`. What is not a \
request at all (a head that is not HTTP, too large or not there in time) is answered 400, 431 or 408, with an `Error`, too.";

/// The document, as it is served.
pub(crate) fn document() -> &'static str {
    static DOCUMENT: LazyLock<String> =
        LazyLock::new(|| make().to_pretty_json().expect("every key is a string") + "\n");
    &DOCUMENT
}

/// Every path with every status that it may be answered with.
pub(crate) fn answers() -> Vec<(String, String)> {
    let mut answers = Vec::new();
    for (path, item) in make().paths.paths {
        for operation in [item.get, item.post].into_iter().flatten() {
            answers.extend(operation.responses.responses.into_keys().map(|status| (path.clone(), status)));
        }
    }
    answers
}

fn make() -> OpenApi {
    let mut openapi = Described::openapi();
    openapi.info.title = "Hookkeeper".to_owned();
    openapi.info.description = Some(DESCRIPTION.to_owned());
    let token = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .description(Some("`API_TOKEN`, where one is set."))
        .build();
    let components = openapi.components.get_or_insert_default();
    components.add_security_scheme("token", SecurityScheme::Http(token));
    errors::describe(&mut openapi);
    identify(&mut openapi);
    openapi
}

/// Each answer that has a line in the log names it.
fn identify(openapi: &mut OpenApi) {
    let name = REQUEST_ID.to_string();
    let components = openapi.components.get_or_insert_default();
    components.headers.insert(name.clone(), Header::new(crate::schema::request_id()).into());

    let operations =
        openapi.paths.paths.values_mut().flat_map(|path| [&mut path.get, &mut path.post]).flatten();
    for response in operations.flat_map(|operation| operation.responses.responses.values_mut()) {
        if let RefOr::T(response) = response {
            let header = Ref::new(format!("#/components/headers/{name}"));
            response.headers.insert(name.clone(), RefOr::Ref(header));
        }
    }
}
