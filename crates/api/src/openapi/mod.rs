//! OpenAPI 3.1 document of the API. It is generated: the handlers describe their success with the structs that are
//! serialised, and the errors describe the other answers.

mod errors;

use std::sync::LazyLock;

use actix_web::HttpResponse;
use actix_web::http::header::ContentType;
use utoipa::OpenApi as _;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{Header, OpenApi, Ref, RefOr};

use crate::access::rights::Denied;
use crate::error::{ApiError, ErrorBody, ValidationErrorBody};
use crate::middleware::observe::REQUEST_ID;
use crate::routes::{health, messages, metrics, stats, webhook};

/// Path of [`openapi`].
pub(crate) const PATH: &str = "/openapi.json";

const DESCRIPTION: &str = "\
A durable inbox for webhooks: verifies, stores each message exactly once, and answers 200 only when it is on disk.

Every GET endpoint also answers HEAD. Unknown paths return 404, unsupported methods 405 with an `Allow` header; both \
carry an `Error` body. Bytes that are not an HTTP request return 400, a head that is too large 431, a head that is too \
late 408; they carry an `Error` body, too.";

/// Every operation and its success.
#[derive(utoipa::OpenApi)]
#[openapi(
    paths(
        webhook::receive,
        messages::list,
        stats::stats,
        metrics::metrics,
        openapi,
        health::live,
        health::ready
    ),
    components(schemas(ErrorBody<'_>, ValidationErrorBody<'_>))
)]
struct Described;

/// Path, and the errors that its route may answer.
type Errors = (&'static str, fn() -> Vec<ApiError>);

/// Errors of the operations above. Those of health are described there.
const ERRORS: [Errors; 5] = [
    (webhook::PATH, webhook::errors),
    (messages::PATH, messages::errors),
    (stats::PATH, stats::errors),
    (metrics::PATH, metrics::errors),
    (PATH, || vec![Denied::NoToken.into(), Denied::UnknownHost.into()]),
];

/// This OpenAPI document
///
/// It is generated from the code that serves the API.
#[utoipa::path(get, path = PATH, tag = "ops", security((), ("token" = [])), responses(
    (status = 200, description = "An OpenAPI 3.1 document.", body = Object, content_type = "application/json"),
))]
pub(crate) async fn openapi() -> HttpResponse {
    HttpResponse::Ok().insert_header(ContentType::json()).body(document())
}

fn document() -> &'static str {
    static DOCUMENT: LazyLock<String> =
        LazyLock::new(|| generate().to_pretty_json().expect("every key is a string") + "\n");
    &DOCUMENT
}

/// Returns every path with every status that it may answer.
pub(crate) fn answers() -> Vec<(String, String)> {
    let mut answers = Vec::new();
    for (path, item) in generate().paths.paths {
        for operation in [item.get, item.post].into_iter().flatten() {
            answers.extend(operation.responses.responses.into_keys().map(|status| (path.clone(), status)));
        }
    }
    answers
}

fn generate() -> OpenApi {
    let mut openapi = Described::openapi();
    openapi.info.title = "Hookkeeper".to_owned();
    openapi.info.description = Some(DESCRIPTION.to_owned());
    let token = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .description(Some("`API_TOKEN`, if it is set."))
        .build();
    let components = openapi.components.get_or_insert_default();
    components.add_security_scheme("token", SecurityScheme::Http(token));
    errors::describe(&mut openapi);
    identify(&mut openapi);
    openapi
}

/// Adds to each answer the header that names its line in the log.
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
