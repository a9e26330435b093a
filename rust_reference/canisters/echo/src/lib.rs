//! Reference canister `echo`: a receiver that answers with the payload it was sent.

use async_flow::canister::{Answer, Application, Reply, Request};

fn handle(request: &Request) -> Reply {
    reference_parts::ran(request);
    Answer::Answer(Some(request.payload.clone())).into()
}

reference_parts::inspection!();
reference_parts::life_cycle!(Application::receiver(handle));
reference_parts::handling!();
async_flow::endpoint!();
