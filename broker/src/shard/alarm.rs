//! Wakes a shard when a connection that is held to a rate is to be read again, to the millisecond: a tick
//! would let it wait for longer than it has to.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use tidings_core::shard::Input;
use tokio::sync::Notify;
use tokio::time::sleep;

use super::flush::Local;

/// When the shard wants to be woken next.
#[derive(Default)]
pub(super) struct Alarm {
    due_ms: Cell<Option<u64>>,
    changed: Notify,
}

impl Alarm {
    /// Sets it to what the shard says after it was flushed.
    pub fn set(&self, due_ms: Option<u64>) {
        if self.due_ms.replace(due_ms) != due_ms {
            self.changed.notify_one();
        }
    }
}

/// Rings for ever.
pub(super) async fn alarm_loop(local: Rc<Local>) {
    let alarm = &local.alarm;
    loop {
        let Some(due_ms) = alarm.due_ms.get() else {
            alarm.changed.notified().await;
            continue;
        };
        let left_ms = due_ms.saturating_sub(local.now_ms());
        tokio::select! {
            () = alarm.changed.notified() => {}
            () = sleep(Duration::from_millis(left_ms)) => {
                // The flush that follows says what is next.
                alarm.due_ms.set(None);
                local.input(Input::Due);
            }
        }
    }
}
