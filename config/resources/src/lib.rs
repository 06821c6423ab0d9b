//! Gateway API, Kubernetes and Outrigger objects, read from YAML or JSON.
