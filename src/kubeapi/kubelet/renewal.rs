//! When the tokens in the files of a Pod are to be made anew. Times are seconds since 1970.

use std::ops::ControlFlow;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;
use tokio::sync::watch;

use crate::meta::{items, number};
use crate::tokens::LIFETIME;

/// The longest time after which a token is made anew, in seconds, however long it lives (as a kubelet has it).
const OLDEST: i64 = 24 * 3600;

/// When tokens were made, and when the first of them is to be made anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Renewal {
    made: i64,
    due: i64,
}

impl Renewal {
    /// Of the tokens of a Pod that are made now; nothing if it has none.
    pub fn of(pod: &Value, now: i64) -> Option<Self> {
        let volumes = items(pod, &["spec", "volumes"]).iter();
        let after = volumes.flat_map(sources).map(|source| {
            let lifetime = lifetime(source);
            (lifetime - lifetime / 5).min(OLDEST)
        });
        after.min().map(|after| Self::after(now, after))
    }

    /// In so many seconds from now on.
    pub fn after(now: i64, seconds: i64) -> Self {
        Self { made: now, due: now.saturating_add(seconds) }
    }

    /// Whether they are to be made anew: in time, or because the clock was set back, so that they have not begun.
    pub fn is_due(self, now: i64) -> bool {
        !(self.made..self.due).contains(&now)
    }

    /// How long it is until then.
    pub fn wait(self, now: i64) -> Duration {
        Duration::from_secs(u64::try_from(self.due.saturating_sub(now)).unwrap_or(0))
    }
}

/// Waits for what is in `renewals`, and calls `renew` with the time whenever that is due, be it because the `clock` was set.
/// The answer is the next renewal, or the end of all.
pub async fn follow(
    renewals: &watch::Sender<Option<Renewal>>,
    mut clock: watch::Receiver<()>,
    mut renew: impl FnMut(i64) -> ControlFlow<(), Option<Renewal>>,
) {
    let mut changes = renewals.subscribe();
    loop {
        let renewal = *changes.borrow_and_update();
        let due = async {
            match renewal {
                Some(renewal) => tokio::time::sleep(renewal.wait(seconds())).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            // The tokens were made just now, with other files.
            changed = changes.changed() => if changed.is_err() { return } else { continue },
            set = clock.changed() => if set.is_err() { return },
            () = due => {}
        }
        let now = seconds();
        if renewal.is_some_and(|renewal| renewal.is_due(now)) {
            match renew(now) {
                ControlFlow::Continue(next) => {
                    renewals.send_replace(next);
                }
                ControlFlow::Break(()) => return,
            }
        }
    }
}

/// Now.
pub fn seconds() -> i64 {
    Timestamp::now().as_second()
}

/// The tokens that a volume is to hold.
pub fn sources(volume: &Value) -> impl Iterator<Item = &Value> {
    items(volume, &["projected", "sources"]).iter().filter_map(|part| part.get("serviceAccountToken"))
}

/// How long a token lives that a volume is to hold, in seconds.
pub fn lifetime(source: &Value) -> i64 {
    number(source, &["expirationSeconds"]).unwrap_or(LIFETIME)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW: i64 = 1_000_000;

    fn pod(lifetimes: &[Value]) -> Value {
        let of =
            |lifetime: &Value| json!({"serviceAccountToken": {"path": "t", "expirationSeconds": lifetime}});
        let sources: Vec<Value> = lifetimes.iter().map(of).collect();
        json!({"spec": {"volumes": [
            {"name": "a", "emptyDir": {}},
            {"name": "b", "projected": {"sources": [{"configMap": {"name": "c"}}]}},
            {"name": "c", "projected": {"sources": sources}},
        ]}})
    }

    #[test]
    fn tokens_are_made_anew_when_four_fifths_of_the_first_ones_life_are_over_or_after_a_day() {
        for (lifetimes, due) in [
            (&[json!(3607)][..], 2886),
            (&[json!(null)], 2880),
            (&[json!(600)], 480),
            (&[json!(3600), json!(600), json!(7200)], 480),
            (&[json!(1_i64 << 32)], 24 * 3600),
        ] {
            let renewal = Renewal::of(&pod(lifetimes), NOW).unwrap();
            assert_eq!(renewal, Renewal { made: NOW, due: NOW + due }, "{lifetimes:?}");
            assert_eq!(renewal.wait(NOW + 100), Duration::from_secs((due - 100).unsigned_abs()));
            assert_eq!(renewal.wait(NOW + due + 100), Duration::ZERO);
        }
        assert_eq!(Renewal::of(&pod(&[]), NOW), None);
    }

    #[test]
    fn tokens_are_due_in_time_and_when_the_clock_is_another_one_but_not_after_a_small_correction() {
        let renewal = Renewal::of(&pod(&[json!(3600)]), NOW).unwrap();
        for now in [NOW, NOW + 1, NOW + 2879] {
            assert!(!renewal.is_due(now), "{now}");
        }
        for now in [NOW + 2880, NOW + 1_000_000, NOW - 1, 0, -1, i64::MIN, i64::MAX] {
            assert!(renewal.is_due(now), "{now}");
        }
    }

    /// Follows renewals for a moment in which the clock is set once; how often was renewed.
    async fn renewed(first: Renewal, next: impl Fn(i64) -> Option<Renewal>) -> usize {
        let (renewals, clock) = (watch::Sender::new(Some(first)), watch::Sender::new(()));
        let mut count = 0;
        let followed = follow(&renewals, clock.subscribe(), |now| {
            count += 1;
            if count == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(next(now)) }
        });
        let set = async {
            tokio::time::sleep(Duration::from_millis(20)).await;
            clock.send_replace(());
            tokio::time::sleep(Duration::from_millis(80)).await;
        };
        tokio::select! {
            () = followed => {}
            () = set => {}
        }
        count
    }

    #[tokio::test]
    async fn tokens_are_renewed_each_time_they_are_due_and_not_before() {
        let now = seconds();
        let (over, later) = (Renewal::after(now - 10, 10), Renewal::after(now - 10, 1000));
        assert_eq!(renewed(over, |now| Some(Renewal::after(now, 0))).await, 3);
        assert_eq!(renewed(over, |now| Some(Renewal::after(now, 1000))).await, 1);
        assert_eq!(renewed(over, |_| None).await, 1);
        assert_eq!(renewed(later, |_| None).await, 0);
    }

    #[tokio::test]
    async fn tokens_are_renewed_when_the_clock_was_set_before_their_time() {
        let ahead = Renewal::after(seconds() + 1000, 1000);
        assert_eq!(renewed(ahead, |now| Some(Renewal::after(now, 1000))).await, 1);
    }

    #[tokio::test]
    async fn tokens_that_were_made_with_other_files_count() {
        let (renewals, clock) = (watch::Sender::new(None), watch::Sender::new(()));
        let made = async {
            tokio::task::yield_now().await;
            renewals.send_replace(Some(Renewal::after(seconds(), 0)));
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = follow(&renewals, clock.subscribe(), |_| ControlFlow::Break(())) => {}
            () = made => {}
        }
    }
}
