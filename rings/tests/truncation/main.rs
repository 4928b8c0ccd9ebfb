//! Snapshots and truncation of one ring: what may go, when, and what a restart makes of what is left.
//!
//! The ring under test is node 2 of three, which follows node 1.

mod stage;

use std::time::Duration;

use annulus_rings::batch::BatchBuilder;
use annulus_rings::{Cut, FramePool, Ignored, Input, Kind, Lsn, NodeId, Outbox, Role, Slot, Time};

use stage::{Stage, accept, ballot, header, learn};

#[test]
fn nothing_may_go_before_the_base_is_durable() {
    let mut stage = Stage::new();
    stage.six_votes(4);
    let cut = stage.snapshot();
    assert_eq!(cut, Cut { slot: Slot(4), lsn: Lsn(5) });
    stage.step(Input::Truncate(cut)).unwrap();
    assert_eq!(stage.kinds()[6..], [Kind::Mark, Kind::Base]);
    assert_eq!((stage.ring.kept(), stage.ring.needed()), (Slot(0), Lsn(1)));
    stage.persist();
    assert_eq!((stage.ring.kept(), stage.ring.needed()), (Slot(4), Lsn(5)));
}

#[test]
#[should_panic(expected = "contract T1")]
fn nothing_is_truncated_above_the_snapshot() {
    let mut stage = Stage::new();
    stage.six_votes(4);
    let _ = stage.step(Input::Truncate(stage.ring.cut(&stage.out)));
}

#[test]
fn an_open_vote_that_is_older_than_the_cut_outlives_it() {
    let mut stage = Stage::new();
    stage.accept(1, 5, 0);
    stage.six_votes_but(5, 4);
    let cut = stage.snapshot();
    assert_eq!(cut, Cut { slot: Slot(4), lsn: Lsn(1) }, "the vote for slot 5 was the first of all");
    stage.accept(1, 6, 0);
    stage.persist();
    assert_eq!(stage.step(Input::Truncate(cut)), Err(Ignored::Duplicate), "that would free nothing");
    // The same vote again in a higher ballot: the old record is not needed any more.
    stage.accept(2, 5, 0);
    let cut = stage.ring.cut(&stage.out);
    stage.step(Input::Truncate(cut)).unwrap();
    stage.persist();
    assert_eq!(stage.ring.needed(), cut.lsn);
    stage.restart(4, cut.lsn);
    assert_eq!(stage.promised_votes(9), [(4, 1), (5, 2), (6, 1)]);
}

#[test]
fn a_promise_outlives_the_cut_of_its_record() {
    let mut stage = Stage::new();
    stage.six_votes(6);
    stage.step(Input::Frame(header(Kind::Prepare, ballot(7, 3)).from(3).frame())).unwrap();
    let cut = stage.snapshot();
    assert_eq!(cut.lsn, Lsn(9));
    stage.step(Input::Truncate(cut)).unwrap();
    stage.persist();
    stage.restart(6, cut.lsn);
    assert_eq!(stage.ring.ballot(), ballot(7, 3));
    let late = accept(ballot(6, 1), 6, 0);
    assert_eq!(stage.step(Input::Frame(late)), Err(Ignored::StaleBallot));
}

#[test]
fn a_promise_between_cut_and_base_is_in_both() {
    let mut stage = Stage::new();
    stage.six_votes(6);
    let cut = stage.snapshot();
    stage.step(Input::Frame(header(Kind::Prepare, ballot(7, 3)).from(3).frame())).unwrap();
    stage.step(Input::Truncate(cut)).unwrap();
    stage.persist();
    for first in [cut.lsn, Lsn(9)] {
        let (recovering, out) = stage.recovering(6, first).unwrap();
        assert_eq!(recovering.recovered(Time(0), &out).ballot(), ballot(7, 3));
    }
}

#[test]
fn a_lesson_that_straddles_the_cut_is_kept_whole() {
    let mut stage = Stage::new();
    stage.six_votes(2);
    // The lesson takes the place of the votes for slots 2..6 and of none below.
    stage.step(Input::Frame(learn(5, 0, 8))).unwrap();
    stage.persist();
    assert_eq!(stage.executed.len(), 8);
    let cut = stage.snapshot();
    assert_eq!(cut.slot, Slot(8));
    // From a snapshot in the middle of it, the rest comes back, and the promise that it implied.
    for base in [0, 1, 2, 5, 7] {
        let (recovering, out) = stage.recovering(base, Lsn(1)).unwrap();
        let ring = recovering.recovered(Time(0), &out);
        assert_eq!((ring.progress().executed, ring.ballot()), (Slot(8), ballot(5, 3)), "from {base}");
        assert_eq!(ring.restored_cut().slot, Slot(base));
    }
}

#[test]
fn what_a_snapshot_covers_raises_the_promise_and_nothing_else() {
    let mut stage = Stage::new();
    stage.step(Input::Frame(learn(5, 0, 3))).unwrap();
    stage.accept(8, 3, 3);
    stage.persist();
    let (recovering, out) = stage.recovering(3, Lsn(1)).unwrap();
    let ring = recovering.recovered(Time(0), &out);
    assert_eq!(
        (ring.ballot(), ring.progress().chosen, ring.progress().proposed),
        (ballot(8, 1), Slot(3), Slot(4))
    );
    let (recovering, out) = stage.recovering(4, Lsn(1)).unwrap();
    let ring = recovering.recovered(Time(0), &out);
    assert_eq!((ring.ballot(), ring.progress().proposed), (ballot(8, 1), Slot(4)));
    stage.journal.truncate(1);
    let (recovering, out) = stage.recovering(3, Lsn(1)).unwrap();
    assert_eq!(recovering.recovered(Time(0), &out).ballot(), ballot(5, 3));
}

#[test]
fn an_older_snapshot_is_refused_when_the_journal_does_not_bridge_the_gap() {
    let mut stage = Stage::new();
    stage.six_votes(4);
    let cut = stage.snapshot();
    stage.step(Input::Truncate(cut)).unwrap();
    stage.persist();
    for base in 0..4 {
        assert_eq!(stage.recovering(base, cut.lsn).err(), Some(Ignored::Gap), "from {base}");
        let (recovering, out) = stage.recovering(base, Lsn(1)).unwrap();
        let ring = recovering.recovered(Time(0), &out);
        assert_eq!((ring.progress().executed, ring.snapshot()), (Slot(4), Slot(base)));
        // What lies between the old snapshot and the cut is needed again.
        assert_eq!((ring.kept() <= Slot(base), ring.needed()), (true, Lsn(1)));
    }
    stage.recovering(4, cut.lsn).unwrap();
    // Without the Base nothing says that records are gone but those that refer to them.
    stage.journal.pop();
    assert_eq!(stage.recovering(3, cut.lsn).err(), Some(Ignored::Gap));
}

/// A cut above the snapshot says nothing of records that were carried behind it since.
#[test]
fn an_older_snapshot_is_enough_again_when_the_slots_above_it_were_carried() {
    let mut stage = Stage::retaining();
    stage.six_votes(2);
    stage.snapshot();
    stage.step(Input::Frame(header(Kind::Heartbeat, ballot(1, 1)).chosen(4).frame())).unwrap();
    let cut = stage.snapshot();
    stage.step(Input::Truncate(cut)).unwrap();
    stage.persist();
    // The newer snapshot cannot be read, and the records are all there.
    stage.restart(2, Lsn(1));
    let (base, end) = (stage.out.appended(), stage.ring.progress().executed);
    assert_eq!(end, Slot(4));
    stage.step(Input::Carry).unwrap();
    stage.persist();
    assert_eq!(stage.ring.needed(), base.next());
    // Freed in part: the cut of the lost snapshot is the first thing that is left.
    stage.restart(2, base);
    assert_eq!((stage.ring.progress().executed, stage.ring.kept()), (Slot(4), Slot(2)));
    assert_eq!(stage.promised_votes(9), [(4, 1), (5, 1)]);
}

#[test]
fn a_cut_may_be_anywhere_in_front_of_the_last() {
    let mut stage = Stage::retaining();
    stage.six_votes(3);
    stage.accept(2, 1, 0);
    stage.accept(2, 4, 0);
    stage.persist();
    let first = stage.snapshot();
    stage.step(Input::Truncate(first)).unwrap();
    stage.step(Input::Frame(learn(6, 3, 7))).unwrap();
    stage.persist();
    let second = stage.snapshot();
    stage.step(Input::Truncate(second)).unwrap();
    stage.persist();
    assert!(second.lsn > first.lsn && second.slot == Slot(7));
    for lsn in 1..=second.lsn.0 {
        let (recovering, out) = stage.recovering(7, Lsn(lsn)).unwrap();
        let ring = recovering.recovered(Time(0), &out);
        assert_eq!((ring.progress().executed, ring.kept(), ring.needed()), (Slot(7), Slot(7), second.lsn));
        assert_eq!(ring.ballot(), ballot(6, 3));
    }
}

#[test]
fn a_late_snapshot_and_a_late_cut_change_nothing() {
    let mut stage = Stage::new();
    stage.six_votes(2);
    let late = stage.ring.cut(&stage.out);
    stage.step(Input::Frame(learn(5, 2, 6))).unwrap();
    stage.persist();
    let cut = stage.snapshot();
    stage.step(Input::Truncate(cut)).unwrap();
    assert_eq!(stage.step(Input::Snapshotted(late.slot)), Err(Ignored::Duplicate));
    assert_eq!(stage.step(Input::Truncate(late)), Err(Ignored::Duplicate));
    assert_eq!(stage.step(Input::Installed(late.slot)), Err(Ignored::Duplicate));
    stage.persist();
    assert_eq!((stage.ring.snapshot(), stage.ring.kept()), (Slot(6), Slot(6)));
}

#[test]
fn a_peer_below_what_is_kept_is_told_of_the_snapshot() {
    let mut stage = Stage::new();
    stage.six_votes(4);
    let cut = stage.snapshot();
    stage.step(Input::Truncate(cut)).unwrap();
    let fetch = |from| header(Kind::Fetch, ballot(1, 1)).slot(from).words([4, 0, 0, 0]).frame();
    stage.step(Input::Frame(fetch(1))).unwrap();
    assert!(stage.sent(Kind::Truncated).is_empty(), "until the Base is durable the journal answers");
    stage.persist();
    stage.step(Input::Frame(fetch(1))).unwrap();
    assert_eq!(stage.sent(Kind::Truncated)[0].slot, Slot(4));
    // What memory still holds is taught from there, kept or not.
    let mut stage = Stage::retaining();
    stage.six_votes(4);
    let cut = stage.snapshot();
    stage.step(Input::Truncate(cut)).unwrap();
    stage.persist();
    stage.step(Input::Frame(fetch(1))).unwrap();
    assert_eq!((stage.ring.kept(), stage.sent(Kind::Learn).len()), (Slot(4), 1));
}

#[test]
fn who_is_told_of_a_snapshot_wants_it_and_asks_on() {
    let mut stage = Stage::new();
    stage.step(Input::Frame(header(Kind::Heartbeat, ballot(1, 1)).chosen(9).frame())).unwrap();
    assert_eq!(stage.sent(Kind::Fetch).len(), 1);
    let truncated = || header(Kind::Truncated, ballot(1, 1)).slot(7).frame();
    stage.step(Input::Frame(truncated())).unwrap();
    assert_eq!(stage.wanted, [(NodeId(1), Slot(7))]);
    stage.now = stage.now + Duration::from_millis(41);
    stage.step(Input::Tick).unwrap();
    assert_eq!(stage.sent(Kind::Fetch).len(), 2, "another member is asked");
    stage.step(Input::Installed(Slot(7))).unwrap();
    let fetches = stage.sent(Kind::Fetch);
    assert_eq!((fetches.len(), fetches[2].slot), (3, Slot(7)), "the rest is fetched");
    assert_eq!(stage.step(Input::Frame(truncated())), Err(Ignored::Duplicate));
    assert_eq!(stage.wanted.len(), 1);
}

#[test]
fn an_installed_snapshot_takes_the_place_of_what_it_covers_and_keeps_the_rest() {
    let mut stage = Stage::new();
    stage.six_votes(2);
    stage.step(Input::Frame(header(Kind::Prepare, ballot(4, 3)).from(3).frame())).unwrap();
    stage.step(Input::Installed(Slot(4))).unwrap();
    let progress = stage.ring.progress();
    assert_eq!((progress.executed, progress.chosen, progress.proposed), (Slot(4), Slot(4), Slot(6)));
    assert_eq!((stage.ring.snapshot(), stage.ring.ballot()), (Slot(4), ballot(4, 3)));
    // What was held of slots 2 and 3 may be votes for anything: needed still, and not to be taught any more.
    let fetch = header(Kind::Fetch, ballot(1, 1)).slot(2).words([4, 0, 0, 0]).frame();
    stage.step(Input::Frame(fetch)).unwrap();
    assert_eq!((stage.sent(Kind::Truncated).len(), stage.ring.needed()), (1, Lsn(1)));
    let votes = [2, 3].map(|slot| accept(ballot(1, 1), slot, 0)).to_vec();
    let retrieved = Input::Retrieved { to: NodeId(1), from: Slot(2), frames: votes };
    assert_eq!(stage.step(retrieved), Err(Ignored::BelowFloor));
    assert_eq!(stage.kinds()[6..], [Kind::Mark, Kind::Prepare, Kind::Base]);
    stage.persist();
    assert_eq!((stage.ring.kept(), stage.ring.needed()), (Slot(4), Lsn(5)));
    assert_eq!(stage.step(Input::Frame(accept(ballot(4, 3), 3, 0))), Err(Ignored::BelowFloor));
    assert_eq!(stage.promised_votes(9), [(4, 1), (5, 1)]);
    // Killed at any time: from the new snapshot, and whatever is left in front of its Base.
    for first in 1..=5 {
        let (recovering, out) = stage.recovering(4, Lsn(first)).unwrap();
        let ring = recovering.recovered(Time(0), &out);
        assert_eq!((ring.progress().executed, ring.kept(), ring.needed()), (Slot(4), Slot(4), Lsn(5)));
        assert_eq!((ring.progress().proposed, ring.ballot()), (Slot(6), ballot(9, 3)));
    }
    // The own records reach up to slot 2: the votes for 2 and 3 may have been for anything.
    for base in 0..4 {
        assert_eq!(stage.recovering(base, Lsn(1)).err(), Some(Ignored::Gap), "from {base}");
    }
}

#[test]
fn chosen_slots_behind_an_installed_snapshot_are_executed() {
    let mut stage = Stage::new();
    // Slots 4 and 5 are known to be chosen, and those in front are missing.
    for slot in [4, 5] {
        stage.accept(1, slot, 6);
    }
    stage.persist();
    stage.step(Input::Installed(Slot(4))).unwrap();
    stage.step(Input::Frame(header(Kind::Heartbeat, ballot(1, 1)).chosen(6).frame())).unwrap();
    assert_eq!(stage.executed, [Slot(4), Slot(5)]);
}

/// Killed after a peer's snapshot was published and before its Base: votes of this replica for slots that
/// the snapshot covers may be for other values than the chosen ones.
#[test]
fn votes_that_a_foreign_snapshot_covers_are_never_taught() {
    let mut stage = Stage::new();
    stage.six_votes(2);
    stage.restart(4, Lsn(1));
    assert_eq!((stage.ring.kept(), stage.ring.snapshot()), (Slot(4), Slot(4)));
    let fetch = || header(Kind::Fetch, ballot(1, 1)).slot(2).words([4, 0, 0, 0]).frame();
    stage.step(Input::Frame(fetch())).unwrap();
    assert_eq!(stage.sent(Kind::Truncated).len(), 1);
    // The next record that names a chosen prefix is a Base: a Mark would vouch for those votes.
    stage.step(Input::Frame(header(Kind::Prepare, ballot(3, 3)).from(3).frame())).unwrap();
    assert_eq!(stage.kinds()[6..], [Kind::Base, Kind::Prepare]);
    stage.persist();
    assert_eq!(stage.ring.needed(), Lsn(5));
    stage.restart(4, Lsn(1));
    assert_eq!(stage.ring.kept(), Slot(4));
    assert_eq!(stage.recovering(0, Lsn(1)).err(), Some(Ignored::Gap));
}

/// The own snapshot is vouched for by a Mark, so that the journal can still be taught from after a restart.
#[test]
fn slots_below_the_own_snapshot_are_still_taught_after_a_restart() {
    let mut stage = Stage::new();
    stage.six_votes(4);
    stage.snapshot();
    stage.persist();
    stage.restart(4, Lsn(1));
    assert_eq!((stage.ring.kept(), stage.ring.needed()), (Slot(0), Lsn(1)));
    let cut = stage.ring.restored_cut();
    assert_eq!(cut, Cut { slot: Slot(4), lsn: Lsn(5) });
    stage.step(Input::Truncate(cut)).unwrap();
    stage.persist();
    assert_eq!((stage.ring.kept(), stage.ring.needed()), (Slot(4), Lsn(5)));
}

#[test]
fn an_idle_ring_carries_what_it_holds_to_the_end_of_the_journal() {
    let mut stage = Stage::retaining();
    stage.six_votes(3);
    stage.snapshot();
    stage.step(Input::Frame(learn(1, 3, 4))).unwrap();
    stage.step(Input::Frame(header(Kind::Prepare, ballot(4, 3)).from(3).frame())).unwrap();
    stage.persist();
    assert!(stage.ring.can_carry());
    let bytes = stage.ring.carry_bytes();
    stage.step(Input::Carry).unwrap();
    let carried = stage.journal.len();
    let written = &stage.journal[carried - 4..carried - 1];
    assert_eq!(bytes, written.iter().map(|append| append.frame.len()).sum());
    assert_eq!(stage.kinds()[carried - 4..], [Kind::Accept, Kind::Accept, Kind::Accept, Kind::Base]);
    let lsn = stage.journal[carried - 4].lsn;
    assert!(!stage.ring.can_carry(), "once is enough");
    // What was carried is not needed twice, and nothing is lost if only a part of it is durable.
    stage.step(Input::Persisted(Lsn(lsn.0 + 2))).unwrap();
    assert_eq!(stage.ring.needed(), Lsn(1));
    stage.persist();
    assert_eq!((stage.ring.kept(), stage.ring.needed()), (Slot(3), lsn));
    stage.restart(3, lsn);
    assert_eq!(stage.ring.progress().executed, Slot(4));
    assert_eq!(stage.promised_votes(9), [(4, 1), (5, 1)]);
    assert_eq!(stage.ring.ballot(), ballot(9, 3));
}

/// The lesson taught nothing new of slot 0, so the vote that is carried is the older one; what said that it was
/// no news is gone when the journal begins with the lesson.
#[test]
fn a_vote_may_be_carried_behind_a_lesson_in_a_higher_ballot() {
    let mut stage = Stage::retaining();
    stage.six_votes(1);
    stage.step(Input::Frame(learn(5, 0, 2))).unwrap();
    stage.persist();
    let lesson = stage.journal.last().unwrap().lsn;
    stage.step(Input::Carry).unwrap();
    stage.persist();
    assert!(lesson < stage.ring.needed());
    stage.restart(0, lesson);
    assert_eq!((stage.ring.progress().executed, stage.ring.ballot()), (Slot(2), ballot(5, 3)));
    assert_eq!(stage.promised_votes(9), [(2, 1), (3, 1), (4, 1), (5, 1)]);
}

#[test]
fn what_is_not_in_memory_cannot_be_carried() {
    let mut stage = Stage::new();
    stage.six_votes(3);
    assert!(!stage.ring.can_carry());
    assert_eq!(stage.step(Input::Carry), Err(Ignored::BelowFloor));
    stage.snapshot();
    stage.step(Input::Carry).unwrap();
    stage.persist();
    assert_eq!((stage.ring.kept(), stage.ring.needed()), (Slot(3), Lsn(8)));
}

#[test]
fn a_ring_without_records_needs_nothing_of_the_journal() {
    let mut stage = Stage::new();
    assert_eq!(stage.ring.needed(), Lsn(u64::MAX));
    assert_eq!(stage.step(Input::Carry), Err(Ignored::Duplicate));
    stage.out = Outbox::new(Lsn(40), FramePool::new(1 << 16));
    stage.accept(1, 0, 0);
    assert_eq!(stage.ring.needed(), Lsn(41));
    let (recovering, _) = stage.recovering(0, Lsn(41)).unwrap();
    assert_eq!(recovering.needed(), Lsn(41));
}

/// P4: the quorum's promises say that slots are chosen which nobody has any more but in a snapshot.
#[test]
fn a_candidate_leads_when_the_state_below_its_base_is_installed() {
    let mut stage = Stage::new();
    stage.now = stage.ring.deadline();
    stage.step(Input::Tick).unwrap();
    let ballot = stage.sent(Kind::PreVote)[0].ballot;
    stage.step(Input::Frame(header(Kind::PreVoted, ballot).from(3).words([1, 0, 0, 0]).frame())).unwrap();
    stage.persist();
    let vote = accept(self::ballot(0, 1), 8, 0);
    let promise = header(Kind::Promise, ballot).from(3).slot(7).words([0, 1, 0, 0]).payload(vote.as_bytes());
    stage.step(Input::Frame(promise.frame())).unwrap();
    assert_eq!((stage.ring.role(), stage.sent(Kind::Fetch).len()), (Role::Candidate, 1));
    stage.step(Input::Frame(header(Kind::Truncated, ballot).from(3).slot(8).frame())).unwrap();
    assert_eq!(stage.wanted, [(NodeId(3), Slot(8))]);
    stage.step(Input::Installed(Slot(8))).unwrap();
    assert_eq!(stage.ring.role(), Role::Leader);
    let proposed: Vec<u64> = stage.sent(Kind::Accept).iter().map(|header| header.slot.0).collect();
    assert_eq!(proposed, [8, 8], "what was reported above the base is proposed again");
}

#[test]
fn a_leader_that_is_given_the_state_of_slots_it_did_not_know_stands_down() {
    let mut stage = Stage::new();
    stage.now = stage.ring.deadline();
    stage.step(Input::Tick).unwrap();
    let ballot = stage.sent(Kind::PreVote)[0].ballot;
    stage.step(Input::Frame(header(Kind::PreVoted, ballot).from(3).words([1, 0, 0, 0]).frame())).unwrap();
    stage.persist();
    stage.step(Input::Frame(header(Kind::Promise, ballot).from(3).words([0, 1, 0, 0]).frame())).unwrap();
    assert_eq!(stage.ring.role(), Role::Leader);
    let mut builder = BatchBuilder::new(4096, 16);
    builder.push(&mut stage.out.pool, b"command");
    let batch = builder.seal(&mut stage.out.pool, 0);
    stage.step(Input::Propose(batch)).unwrap();
    stage.step(Input::Frame(header(Kind::BelowFloor, ballot).from(3).slot(5).frame())).unwrap();
    stage.step(Input::Installed(Slot(5))).unwrap();
    assert_eq!(stage.ring.role(), Role::Follower { leader: None });
    stage.persist();
    assert_eq!(stage.ring.progress().chosen, Slot(5));
}
