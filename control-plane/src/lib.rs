//! Configures every proxy over xDS, signs certificates, reports status.
