//! Reference canister `player`: sender and receiver whose application does what it is told to.

reference_parts::life_cycle!(reference_parts::played::application());
reference_parts::handling!();
reference_parts::directing!();
async_flow::endpoint!();
