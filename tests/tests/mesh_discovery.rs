//! Which way a connection takes: by its name in TLS, by shares, by who asks, and what becomes of it when there is none.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod mesh_discovery {
    mod attachment;
    mod egress;
    mod tls;
}
