//! The OpenAPI document of the public API, made from the handlers' own annotations.

use utoipa::{
    OpenApi,
    openapi::security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme},
};

use crate::{
    operation::{Caller, Rule},
    operations::OPERATIONS,
    resource as r,
};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Stockade",
        description = "Coding agents that work inside your walls. Identifiers are strings, times microseconds since \
                       1970, money nano-dollars. A failed answer has the body ErrorBody. The operations of runners \
                       are not part of this document."
    ),
    paths(
        r::system::health,
        r::system::openapi,
        r::system::doctor,
        r::people::me,
        r::people::create_token,
        r::tokens::prepare,
        r::tokens::create,
        r::tokens::list,
        r::tokens::revoke,
        r::groups::list,
        r::groups::create,
        r::groups::change,
        r::calls::list,
        r::calls::sums,
        r::calls::show,
        r::calls::sessions,
        r::connections::list,
        r::connections::sums,
        r::connections::show,
        r::projects::list,
        r::projects::create,
        r::projects::show,
        r::projects::update,
        r::tasks::prepare,
        r::tasks::start,
        r::runs::list,
        r::runs::show,
        r::runs::cancel,
        r::runs::resume,
        r::runs::erase,
        r::run_events::list,
        r::run_contents::show,
        r::run_tickets::issue,
        r::run_replies::give,
        r::approvals::list,
        r::approvals::show,
        r::approvals::grant,
        r::approvals::deny,
        r::classes::list,
        r::environments::list,
        r::environments::show,
        r::environments::delete,
        r::policy::show,
        r::policy::put,
        r::policy::check,
        r::policy::test,
        r::policy::explain,
        r::budgets::list,
        r::budgets::set,
        r::records::list,
        r::records::show,
        r::records::proof,
        r::ledgers::list,
        r::export::stream,
        r::runners::list,
        r::runners::enroll_token,
    ),
    components(schemas(stockade_api::error::ErrorBody))
)]
struct Document;

/// The OpenAPI document. Each operation carries `x-caller` and `x-action` (or `x-public` with the reason)
/// from the operation table.
pub fn document() -> utoipa::openapi::OpenApi {
    let mut document = Document::openapi();
    if let Some(components) = document.components.as_mut() {
        components.add_security_scheme("token", SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer)));
    }
    for operation in OPERATIONS {
        let Some(item) = document.paths.paths.get_mut(operation.path) else { continue };
        let slot = match operation.method.as_str() {
            "GET" => &mut item.get,
            "POST" => &mut item.post,
            "PUT" => &mut item.put,
            "PATCH" => &mut item.patch,
            _ => &mut item.delete,
        };
        let Some(described) = slot else { continue };
        let mut more = utoipa::openapi::extensions::ExtensionsBuilder::new();
        if operation.caller == Caller::User {
            described.security = Some(vec![SecurityRequirement::new("token", Vec::<String>::new())]);
        }
        more = match operation.rule {
            Rule::Action(action) => more.add("x-action", action.as_str()),
            Rule::Public(reason) => more.add("x-public", reason),
            Rule::Runner(reason) => more.add("x-runner", reason),
        };
        described.extensions = Some(more.build());
    }
    document
}
