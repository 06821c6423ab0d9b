//! What every Outrigger process needs: keys, TLS, telemetry, lifecycle.
