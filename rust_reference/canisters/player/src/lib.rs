//! Reference canister `player`: sender and receiver whose application does what it is told to.
//!
//! Installed with a role it has that one alone. By feature it serves one more dialect beside `unified`.

reference_parts::life_cycle!(reference_parts::played::Start, reference_parts::played::begin);
reference_parts::handling!();
reference_parts::directing!();
reference_parts::endpoint!();
