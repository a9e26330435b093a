//! What the reference canisters share (`candid/reference.did`, `candid/compute.did`).

mod compute;
mod kept;
pub mod played;

use async_flow::message::Blob;
use candid::{CandidType, Deserialize, Principal};

pub use compute::compute;
pub use kept::{
    handled, memory, outcome, ran, start, start_cost, take, Memory, Outcome, FIRST_MEMORY,
};

/// What is to be sent, and to whom.
#[derive(CandidType, Deserialize)]
pub struct SendRequest {
    /// The receiver.
    pub to: Principal,
    /// What is to be processed.
    pub payload: Blob,
}

/// What became of a send.
#[derive(CandidType)]
#[allow(non_camel_case_types)]
pub enum SendResult {
    /// The id of the opened flow.
    ok(u128),
    /// Why it was not opened.
    err(String),
}

/// Which flow is asked about.
#[derive(CandidType, Deserialize)]
pub struct HandledQuery {
    /// Who opened it.
    pub sender: Principal,
    /// Its id.
    pub msg_id: u128,
}

/// Ingress of strangers costs no cycles.
#[macro_export]
macro_rules! inspection {
    () => {
        #[::ic_cdk::inspect_message]
        fn inspect() {
            ::async_flow::canister::inspect();
        }
    };
}

/// Starts a reference canister and exports its life cycle: install and upgrade.
#[macro_export]
macro_rules! life_cycle {
    ($application:expr) => {
        $crate::life_cycle!(::async_flow::canister::Install, |install| $crate::start(
            $application,
            install
        ));
    };
    ($argument:ty, $begin:expr) => {
        #[::ic_cdk::init]
        fn init(install: Option<$argument>) {
            $begin(install);
        }

        #[::ic_cdk::pre_upgrade]
        fn save() {
            ::async_flow::canister::save();
        }

        #[::ic_cdk::post_upgrade]
        fn resume(install: Option<$argument>) {
            init(install);
        }

        fn drivers_only() -> Result<(), String> {
            ::async_flow::canister::is_driver(&::ic_cdk::api::msg_caller()).then_some(()).ok_or(
                "only controllers, monitors and listed agents may drive this canister".to_string(),
            )
        }
    };
}

/// How a canister that sends is driven.
#[macro_export]
macro_rules! sending {
    () => {
        #[::ic_cdk::update(hidden = true, guard = "drivers_only")]
        async fn send(request: $crate::SendRequest) -> $crate::SendResult {
            match ::async_flow::canister::send(request.to, request.payload).await {
                Ok(id) => $crate::SendResult::ok(id),
                Err(reason) => $crate::SendResult::err(reason.to_string()),
            }
        }

        #[::ic_cdk::query(hidden = true, guard = "drivers_only")]
        fn outcome(id: u128) -> Option<$crate::Outcome> {
            $crate::outcome(id)
        }
    };
}

/// What a canister that receives reports.
#[macro_export]
macro_rules! handling {
    () => {
        #[::ic_cdk::query(hidden = true, guard = "drivers_only")]
        fn handled(flow: $crate::HandledQuery) -> u128 {
            $crate::handled(flow.sender, flow.msg_id)
        }
    };
}

/// What peers, monitors and controllers call: the dialect `unified`, and the one that the canister's
/// feature `maf`, `bounty` or `positional` names.
#[macro_export]
macro_rules! endpoint {
    () => {
        #[cfg(not(any(feature = "maf", feature = "bounty", feature = "positional")))]
        ::async_flow::endpoint!();
        #[cfg(feature = "maf")]
        ::async_flow::endpoint!(maf);
        #[cfg(feature = "bounty")]
        ::async_flow::endpoint!(bounty);
        #[cfg(feature = "positional")]
        ::async_flow::endpoint!(positional);
    };
}
