//! Reference canister `priced`: a receiver that asks for cycles, with the `compute` application.

use async_flow::canister::{Application, Reply, Request};

fn handle(request: &Request) -> Reply {
    reference_parts::ran(request);
    reference_parts::compute(request)
}

reference_parts::inspection!();
reference_parts::life_cycle!(Application { priced: true, ..Application::receiver(handle) });
reference_parts::handling!();
async_flow::endpoint!();
