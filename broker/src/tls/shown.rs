//! Certificates that clients showed on connections that are open: who showed one that does not count any
//! more has to go.
//!
//! Invariant: a certificate is in the book before anybody is let in by it, and newer files count before the
//! book is gone through; so nobody slips between the two. This module does not know whose connections they
//! are: they ask, or wait.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use rustls::pki_types::CertificateDer;
use tokio::sync::watch;

use crate::auth::Certified;

/// Entries of the book at which those of connections that have ended are thrown out for the first time.
const SWEEP_AT: usize = 256;

/// What a client showed when TLS began.
#[derive(Debug)]
pub(crate) struct Shown {
    /// Its certificate, and those between it and the CA.
    chain: Vec<CertificateDer<'static>>,
    /// Who it says they are; `None`: it opens the door and says nothing.
    certified: Option<Certified>,
    is_revoked: watch::Sender<bool>,
}

impl Shown {
    pub fn new(chain: Vec<CertificateDer<'static>>, certified: Option<Certified>) -> Self {
        Self {
            chain,
            certified,
            is_revoked: watch::Sender::new(false),
        }
    }

    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    pub fn certified(&self) -> Option<&Certified> {
        self.certified.as_ref()
    }

    /// Whether it does not count any more.
    pub fn is_revoked(&self) -> bool {
        *self.is_revoked.borrow()
    }

    /// Waits until it does not count any more.
    pub async fn revoked(&self) {
        // The sender is in `self`.
        let _ = self.is_revoked.subscribe().wait_for(|is| *is).await;
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Book(Mutex<Entries>);

#[derive(Debug, Default)]
struct Entries {
    shown: Vec<Weak<Shown>>,
    sweep_at: usize,
}

impl Book {
    pub fn add(&self, shown: &Arc<Shown>) {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if entries.shown.len() >= entries.sweep_at.max(SWEEP_AT) {
            entries.shown.retain(|shown| shown.strong_count() > 0);
            entries.sweep_at = 2 * entries.shown.len();
        }
        entries.shown.push(Arc::downgrade(shown));
    }

    /// Marks those that do not count any more, and says how many they are.
    pub fn judge(&self, counts: impl Fn(&Shown) -> bool) -> usize {
        let entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let open: Vec<_> = entries.shown.iter().filter_map(Weak::upgrade).collect();
        // Judging takes a while: who comes meanwhile is judged by what counts now anyway.
        drop(entries);
        let gone = open.iter().filter(|shown| !counts(shown));
        gone.filter(|shown| !shown.is_revoked.send_replace(true))
            .count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_does_not_count_any_more_is_told_once_and_who_has_gone_is_forgotten() {
        let book = Book::default();
        let shown: Vec<_> = (0..2000)
            .map(|number: u32| {
                let chain = vec![CertificateDer::from(number.to_be_bytes().to_vec())];
                let shown = Arc::new(Shown::new(chain, None));
                book.add(&shown);
                // Most of them do not stay.
                number.is_multiple_of(100).then_some(shown)
            })
            .collect();
        let stayed: Vec<_> = shown.into_iter().flatten().collect();
        assert!(book.0.lock().unwrap().shown.len() < 2 * SWEEP_AT);
        let is_even = |shown: &Shown| shown.chain()[0].as_ref()[3] % 8 == 0;
        let odd = stayed.iter().filter(|shown| !is_even(shown)).count();
        assert_eq!(book.judge(is_even), odd);
        assert_eq!(book.judge(is_even), 0);
        for shown in &stayed {
            assert_eq!(shown.is_revoked(), !is_even(shown));
            if shown.is_revoked() {
                shown.revoked().await;
            }
        }
    }
}
