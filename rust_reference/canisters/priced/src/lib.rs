//! Reference canister `priced`: `player` that asks for cycles, with the `compute` application too.
//!
//! A payload that is Candid is computed. By feature it serves one more dialect beside `unified`.

use async_flow::canister::{Application, Reply, Request};
use reference_parts::played;

fn handle(request: &Request) -> Reply {
    if request.payload.starts_with(b"DIDL") {
        reference_parts::ran(request);
        return reference_parts::compute(request);
    }
    played::handle(request)
}

fn begin(given: Option<played::Start>) {
    let application = played::application();
    played::begin_as(given, Application { handler: Some(handle), priced: true, ..application });
}

reference_parts::inspection!();
reference_parts::life_cycle!(played::Start, begin);
reference_parts::handling!();
reference_parts::directing!();
reference_parts::endpoint!();
