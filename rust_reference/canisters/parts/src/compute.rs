//! The `compute` application (`candid/compute.did`).

use async_flow::canister::{Answer, Reply, Request};
use async_flow::message::Blob;
use candid::de::{DecoderConfig, IDLDeserialize};
use candid::{CandidType, Deserialize};

#[derive(CandidType, Deserialize)]
struct Numbers {
    numbers: Vec<u64>,
}

#[derive(CandidType)]
struct Computed {
    sum: u128,
    largest: Option<u64>,
    crc32: u32,
}

#[derive(CandidType)]
#[allow(non_camel_case_types)]
enum Response {
    ok(Computed),
    err(String),
}

/// Work that decoding a stranger's payload may take, in the decoder's units.
const QUOTA: usize = 100_000_000;

fn read(payload: &[u8]) -> Result<Numbers, candid::Error> {
    let mut config = DecoderConfig::new();
    config.set_decoding_quota(QUOTA).set_skipping_quota(10_000);
    let mut reader = IDLDeserialize::new_with_config(payload, &config)?;
    let numbers = reader.get_value()?;
    reader.done()?;
    Ok(numbers)
}

/// Answers a request with the sum and the largest of its numbers, or with what is wrong with it.
pub fn compute(request: &Request) -> Reply {
    let response = match read(&request.payload) {
        Ok(Numbers { numbers }) => Response::ok(Computed {
            sum: numbers.iter().map(|n| u128::from(*n)).sum(),
            largest: numbers.iter().max().copied(),
            crc32: request.hash,
        }),
        Err(_) => {
            Response::err("a request is record { numbers : vec nat64 } in Candid".to_string())
        }
    };
    let bytes = candid::encode_one(response).expect("this type always encodes");
    Answer::Answer(Some(Blob::from(bytes))).into()
}
