//! The connection below a request, as far as an answer that takes its time has to know it.
//!
//! A connection is short, unless a stream goes over it: its place among the peers of whom nothing is
//! known is given back then, and it stays until the stream ends or is cut.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use crate::admission::Place;

/// See the module.
#[derive(Clone, Debug, Default)]
pub(crate) struct Line(Arc<State>);

#[derive(Debug)]
struct State {
    streams: watch::Sender<usize>,
    cut: watch::Sender<bool>,
    place: Mutex<Option<Place>>,
}

impl Default for State {
    fn default() -> Self {
        Self {
            streams: watch::Sender::new(0),
            cut: watch::Sender::new(false),
            place: Mutex::default(),
        }
    }
}

/// A stream that goes over a connection, until it is dropped.
#[derive(Debug)]
pub(crate) struct Streaming(Line);

impl Line {
    /// A connection that takes a place.
    pub fn new(place: Place) -> Self {
        let line = Self::default();
        *line.0.place.lock().unwrap_or_else(PoisonError::into_inner) = Some(place);
        line
    }

    /// Takes the place, for who will take another one.
    pub fn take_place(&self) -> Option<Place> {
        let mut place = self.0.place.lock().unwrap_or_else(PoisonError::into_inner);
        place.take()
    }

    /// Whoever asks is known, and takes their time.
    pub fn begin_stream(&self) -> Streaming {
        drop(self.take_place());
        self.0.streams.send_modify(|streams| *streams += 1);
        Streaming(self.clone())
    }

    /// Ends the connection, whatever waits to be written.
    pub fn cut(&self) {
        self.0.cut.send_replace(true);
    }

    /// True if no stream goes over the connection.
    pub fn has_no_stream(&self) -> bool {
        *self.0.streams.borrow() == 0
    }

    /// Waits until no stream goes over the connection.
    pub async fn is_idle(&self) {
        // The sender is in `self`.
        let _ = self
            .0
            .streams
            .subscribe()
            .wait_for(|streams| *streams == 0)
            .await;
    }

    /// Waits until the connection is to end.
    pub async fn is_cut(&self) {
        let _ = self.0.cut.subscribe().wait_for(|cut| *cut).await;
    }
}

impl Drop for Streaming {
    fn drop(&mut self) {
        let streams = &self.0.0.streams;
        streams.send_modify(|streams| *streams = streams.saturating_sub(1));
    }
}
