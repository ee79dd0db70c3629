//! Which of several certificates a client is shown: the one that has the name it asks for (SNI,
//! RFC 6066 §3), with a key that it understands; and the first one if there is none.

use std::sync::Arc;

use rustls::SignatureScheme;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use x509_cert::Certificate;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

/// A certificate and the names it is for.
#[derive(Debug)]
pub(super) struct Offer {
    /// DNS names in lower case; `*.` stands for one label.
    pub names: Vec<String>,
    pub certified: Arc<CertifiedKey>,
}

/// At least one.
#[derive(Debug)]
pub(super) struct Offers(Vec<Offer>);

impl Offers {
    pub fn new(offers: Vec<Offer>) -> Option<Self> {
        (!offers.is_empty()).then_some(Self(offers))
    }

    fn choose(
        &self,
        name: Option<&str>,
        understood: &[SignatureScheme],
    ) -> Option<Arc<CertifiedKey>> {
        let asked = name.map(|name| name.trim_end_matches('.').to_ascii_lowercase());
        let is_understood =
            |offer: &&Offer| offer.certified.key.choose_scheme(understood).is_some();
        let named = asked.and_then(|asked| {
            let mut named = self.0.iter().filter(|offer| offer.is_for(&asked));
            named.find(is_understood)
        });
        let chosen = named.or_else(|| self.0.iter().find(is_understood))?;
        Some(chosen.certified.clone())
    }
}

impl ResolvesServerCert for Offers {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.choose(hello.server_name(), hello.signature_schemes())
    }
}

impl Offer {
    fn is_for(&self, asked: &str) -> bool {
        self.names.iter().any(|name| covers(name, asked))
    }
}

/// The DNS names that a certificate is for, in lower case.
pub(super) fn dns_names(certificate: &Certificate) -> Vec<String> {
    let found = certificate.tbs_certificate.get::<SubjectAltName>();
    let names = found.ok().flatten().map(|(_, names)| names.0);
    let dns = names.iter().flatten().filter_map(|name| match name {
        GeneralName::DnsName(name) => Some(name.as_str().to_ascii_lowercase()),
        _ => None,
    });
    dns.collect()
}

/// Whether a name of a certificate is for a name that is asked for, both in lower case (RFC 6125).
fn covers(name: &str, asked: &str) -> bool {
    match name.strip_prefix("*.") {
        Some(parent) => asked
            .split_once('.')
            .is_some_and(|(label, rest)| !label.is_empty() && rest == parent),
        None => name == asked,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_one_label() {
        for (name, asked, is_for) in [
            ("broker.example", "broker.example", true),
            ("broker.example", "other.example", false),
            ("*.example", "broker.example", true),
            ("*.example", "a.broker.example", false),
            ("*.example", ".example", false),
            ("*.example", "example", false),
        ] {
            assert_eq!(covers(name, asked), is_for, "{name} {asked}");
        }
    }
}
