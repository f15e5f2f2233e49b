//! The real brain over simulated engines in virtual time
