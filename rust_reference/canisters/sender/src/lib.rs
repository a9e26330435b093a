//! Reference canister `sender`: opens flows and reports how they ended.

use async_flow::canister::Application;

reference_parts::inspection!();
reference_parts::life_cycle!(Application::sender(reference_parts::take));
reference_parts::sending!();
async_flow::endpoint!();
