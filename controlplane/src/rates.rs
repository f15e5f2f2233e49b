//! The rates of the routing cost, fitted online from what requests of all gateways really took: one fit for the fleet of
//! a pool, one factor per endpoint. A fit per endpoint would chase noise and herd requests; the factor has a dead band.

pub mod average;
pub mod fit;
pub mod fleet;
pub mod margin;
pub mod slowness;
