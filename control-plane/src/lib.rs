//! Configures every proxy over xDS, signs certificates, reports status.
//!
//! A change goes through the modules in this order: a `source` sees it, the `world` takes it in, `translate` says what
//! it means for the data plane, `xds` tells the proxies. `ca` and `token` give workloads their identity; `jwks` fetches
//! the keys with which proxies verify the tokens of users. `run` puts it
//! all together. In a cluster the replica that `leader` elects tells users what became of their objects (`writer`).
//! `injector` puts sidecars into pods and `webhook` has the API server ask for that; they share nothing with that path.

pub mod ca;
pub mod explain;
pub mod http;
pub mod injector;
pub mod jwks;
pub mod kubernetes;
pub mod leader;
pub mod run;
pub mod source;
pub mod status;
pub mod token;
pub mod translate;
pub mod webhook;
pub mod world;
pub mod writer;
pub mod xds;
