//! Reference canister `both`: sender and receiver in one, with the `compute` application.
//!
//! By feature it serves one more dialect beside `unified`.

use async_flow::canister::{Application, Reply, Request};

fn handle(request: &Request) -> Reply {
    reference_parts::ran(request);
    reference_parts::compute(request)
}

reference_parts::inspection!();
reference_parts::life_cycle!(Application::both(handle, reference_parts::take));
reference_parts::sending!();
reference_parts::handling!();
reference_parts::endpoint!();
