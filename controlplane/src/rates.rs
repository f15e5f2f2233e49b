//! The rates of the routing cost, fitted online from what requests of all gateways really took: one fit for the fleet of
//! a pool, one factor per endpoint. A fit per endpoint would chase noise and herd requests; the factor has a dead band.

pub mod average;
pub mod first_token;
pub mod fit;
pub mod fleet;
pub mod margin;
pub mod slowness;

#[expect(clippy::cast_precision_loss, reason = "counts of tokens and bytes, far below 2^53")]
const fn real(count: u64) -> f64 {
    count as f64
}
