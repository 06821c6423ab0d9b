//! What we write we read back, and what nobody wrote does no harm.

use proptest::prelude::*;

use super::strategies::resource;
use crate::codec::{Any, decode, encode};
use crate::resource::ResourceType;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn every_resource_comes_back_as_it_was(resource in resource()) {
        let any = encode(&resource);
        prop_assert_eq!(&any.type_url, resource.kind().url());
        let back = decode(&any).map_err(|error| TestCaseError::fail(error.to_string()))?;
        prop_assert_eq!(&back, &resource);
        prop_assert_eq!(encode(&back), any);
    }

    #[test]
    fn a_damaged_resource_never_panics(
        resource in resource(),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let whole = encode(&resource);
        for end in 0..whole.value.len() {
            let _ = decode(&Any { value: whole.value[..end].to_vec(), ..whole.clone() });
        }
        let mut damaged = whole;
        if !damaged.value.is_empty() {
            let at = at.index(damaged.value.len());
            damaged.value[at] = byte;
            let _ = decode(&damaged);
        }
    }

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
        for kind in ResourceType::ALL {
            let _ = decode(&Any { type_url: kind.url().to_owned(), value: bytes.clone() });
        }
    }
}
