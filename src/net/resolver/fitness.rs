//! Whether an upstream is fit for DNSSEC.

use crate::net::resolver::Resolver;
use crate::net::resolver::upstream::UpstreamAddress;

impl Resolver {
    pub(super) fn suspect(&self, _address: &UpstreamAddress) {}

    pub(super) fn is_unfit(&self, _address: &UpstreamAddress) -> Option<String> {
        None
    }
}
