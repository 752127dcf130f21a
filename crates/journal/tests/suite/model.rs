//! Random operations against a naive model, with the store closed and opened again in between.

use std::collections::HashMap;

use bytes::Bytes;
use proptest::prelude::*;
use tertulia_journal::{
    AppendError, Batch, Expect, LogId, Opened, ReadError, Record, Snapshot, Usage, Versioned,
};

use crate::common::{Rig, append, batch, log, record};

#[derive(Clone, Debug)]
enum Step {
    Append { log: u8, epoch: u32, count: u32, size: usize, skew: i8 },
    Save { log: u8, epoch: u32, back: u64, size: usize },
    Trim { log: u8, back: u64 },
    Delete { log: u8 },
    Put { key: u8, expect: Option<u64>, size: Option<usize> },
    Read { log: u8, back: u64, bytes_max: usize },
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    let log = 0_u8..3;
    let size = prop_oneof![4 => 0_usize..300, 1 => 0_usize..12_000];
    prop_oneof![
        12 => (log.clone(), 0_u32..4, 0_u32..4, size, prop_oneof![9 => Just(0), 1 => -1_i8..2])
            .prop_map(|(log, epoch, count, size, skew)| Step::Append { log, epoch, count, size, skew }),
        3 => (log.clone(), 0_u32..4, 0_u64..4, 0_usize..20_000)
            .prop_map(|(log, epoch, back, size)| Step::Save { log, epoch, back, size }),
        3 => (log.clone(), 0_u64..6).prop_map(|(log, back)| Step::Trim { log, back }),
        1 => log.clone().prop_map(|log| Step::Delete { log }),
        3 => (0_u8..3, proptest::option::of(0_u64..3), proptest::option::of(0_usize..9_000))
            .prop_map(|(key, expect, size)| Step::Put { key, expect, size }),
        3 => (log, 0_u64..8, 0_usize..3_000)
            .prop_map(|(log, back, bytes_max)| Step::Read { log, back, bytes_max }),
        1 => Just(Step::Reopen),
    ]
}

/// What a log should be: everything in plain lists.
#[derive(Clone, Debug)]
struct Plain {
    epoch: u32,
    first: u64,
    next: u64,
    snapshot: Option<Snapshot>,
    records: Vec<Record>,
}

impl Default for Plain {
    fn default() -> Self {
        Self { epoch: 0, first: 1, next: 1, snapshot: None, records: Vec::new() }
    }
}

fn end(record: &Record) -> u64 {
    record.first + u64::from(record.count)
}

fn lies_below(record: &Record, number: u64) -> bool {
    if record.count == 0 { record.first < number } else { end(record) <= number }
}

fn size(record: &Record) -> u64 {
    (record.notes.len() + record.entries.len()) as u64
}

impl Plain {
    fn append(&mut self, batch: &Batch) -> Result<(), AppendError> {
        if batch.epoch < self.epoch {
            return Err(AppendError::Fenced { current: self.epoch });
        }
        if batch.first != self.next {
            return Err(AppendError::OutOfOrder { got: batch.first, expected: self.next });
        }
        self.epoch = batch.epoch;
        self.next += u64::from(batch.count);
        self.records.push(record(batch));
        Ok(())
    }

    fn save(&mut self, epoch: u32, at: u64, state: &Bytes) -> Result<(), AppendError> {
        if epoch < self.epoch {
            return Err(AppendError::Fenced { current: self.epoch });
        }
        let older = self.snapshot.as_ref().map_or(0, |snapshot| snapshot.at);
        if at < older {
            return Err(AppendError::OutOfOrder { got: at, expected: older });
        }
        self.epoch = epoch;
        self.snapshot = Some(Snapshot { at, state: state.clone() });
        Ok(())
    }

    fn trim(&mut self, below: u64) -> Result<(), AppendError> {
        if below <= self.first {
            return Ok(());
        }
        let covered = self.snapshot.as_ref().map_or(self.first, |snapshot| snapshot.at + 1);
        if below > covered {
            return Err(AppendError::OutOfOrder { got: below, expected: covered });
        }
        let holder = self.records.iter().find(|record| !lies_below(record, below));
        self.first = holder.map_or(self.next, |record| record.first);
        let first = self.first;
        self.records.retain(|record| !lies_below(record, first));
        Ok(())
    }

    fn read(&self, from: u64, bytes_max: usize) -> Result<Vec<Record>, ReadError> {
        if from < self.first {
            return Err(ReadError::Trimmed { first: self.first });
        }
        let mut bytes = 0;
        let mut records = Vec::new();
        for record in self.records.iter().filter(|record| !lies_below(record, from)) {
            bytes += size(record);
            let has_entries = records.iter().any(|record: &Record| record.count > 0);
            if has_entries && bytes > bytes_max as u64 {
                break;
            }
            records.push(record.clone());
        }
        Ok(records)
    }
}

#[derive(Default)]
struct Model {
    logs: HashMap<LogId, Plain>,
    records: HashMap<String, Versioned>,
}

impl Model {
    fn put(&mut self, key: &str, expect: Expect, value: Option<Bytes>) -> Result<u64, AppendError> {
        let current = self.records.get(key).map_or(0, |record| record.version);
        let expected = match expect {
            Expect::Any => current,
            Expect::Absent => 0,
            Expect::Version(version) => version,
        };
        if expected != current {
            return Err(AppendError::Conflict { current });
        }
        match value {
            Some(value) => {
                let version = current + 1;
                self.records.insert(key.to_owned(), Versioned { version, value });
                Ok(version)
            }
            None => Ok(self.records.remove(key).map_or(0, |record| record.version + 1)),
        }
    }

    fn run(&mut self, rig: &mut Rig, step: &Step) {
        match step.clone() {
            Step::Append { log: id, epoch, count, size, skew } => {
                let plain = self.logs.entry(log(id)).or_default();
                let first = plain.next.saturating_add_signed(i64::from(skew));
                let batch = batch(log(id), epoch, first, count, size);
                let refused = plain.clone();
                let expected = plain.append(&batch);
                if expected.is_err() {
                    *plain = refused;
                }
                assert_eq!(append(rig.engine(), batch), expected);
            }
            Step::Save { log: id, epoch, back, size } => {
                let plain = self.logs.entry(log(id)).or_default();
                let at = (plain.next - 1).saturating_sub(back);
                let state = Bytes::from(vec![7; size]);
                let expected = plain.save(epoch, at, &state);
                let (sender, receiver) = std::sync::mpsc::channel();
                let done = Box::new(move |result| drop(sender.send(result)));
                rig.engine().save_snapshot(log(id), epoch, Snapshot { at, state }, done);
                assert_eq!(receiver.recv(), Ok(expected));
            }
            Step::Trim { log: id, back } => {
                let plain = self.logs.entry(log(id)).or_default();
                let below = (plain.next + 1).saturating_sub(back);
                assert_eq!(rig.engine().trim(log(id), below), plain.trim(below));
            }
            Step::Delete { log: id } => {
                self.logs.remove(&log(id));
                assert_eq!(rig.engine().delete(log(id)), Ok(()));
            }
            Step::Put { key, expect, size } => {
                let key = format!("key/{key}");
                let expect = match expect {
                    None => Expect::Any,
                    Some(0) => Expect::Absent,
                    Some(version) => Expect::Version(version),
                };
                let value = size.map(|size| Bytes::from(vec![3; size]));
                let expected = self.put(&key, expect, value.clone());
                assert_eq!(rig.engine().put(&key, expect, value), expected);
            }
            Step::Read { log: id, back, bytes_max } => {
                let plain = self.logs.entry(log(id)).or_default();
                let from = (plain.next + 1).saturating_sub(back).max(1);
                let expected = plain.read(from, bytes_max);
                assert_eq!(rig.engine().read(log(id), from, bytes_max), expected);
            }
            Step::Reopen => {
                rig.reopen();
                self.compare(rig);
            }
        }
    }

    fn compare(&self, rig: &Rig) {
        for (id, plain) in &self.logs {
            let opened = Opened {
                epoch: plain.epoch,
                first: plain.first,
                next: plain.next,
                snapshot: plain.snapshot.clone(),
            };
            assert_eq!(rig.engine().open(*id), Ok(opened));
            let records = rig.engine().read(*id, plain.first, usize::MAX);
            assert_eq!(records, Ok(plain.records.clone()));
            let bytes = plain.records.iter().map(size).sum();
            let usage = Usage { bytes, records: plain.records.len() as u64 };
            assert_eq!(rig.engine().usage(*id), usage);
        }
        let mut records: Vec<_> = self.records.clone().into_iter().collect();
        records.sort_by(|a, b| a.0.cmp(&b.0));
        assert_eq!(rig.engine().scan(""), Ok(records));
    }
}

fn check(mut rig: Rig, steps: Vec<Step>) {
    let mut model = Model::default();
    for step in steps {
        model.run(&mut rig, &step);
    }
    model.compare(&rig);
    rig.reopen();
    model.compare(&rig);
}

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        failure_persistence: None,
        max_shrink_iters: 500,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config(48))]

    #[test]
    fn memory_is_as_the_model(steps in proptest::collection::vec(step(), 1..150)) {
        check(Rig::memory(), steps);
    }

    #[test]
    fn embedded_is_as_the_model(steps in proptest::collection::vec(step(), 1..150)) {
        check(Rig::embedded(), steps);
    }
}
