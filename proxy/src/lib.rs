//! The sidecar: carries a workload's traffic in and out.
