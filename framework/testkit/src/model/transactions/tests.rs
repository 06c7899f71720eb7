//! Does the coordinator keep Kafka's rules?

use super::*;

const NOW: Time = Time::ZERO;
const LONG: Duration = Duration::from_secs(60);

struct Coordinator {
    transactions: Transactions,
    endings: Vec<Ending>,
}

fn coordinator() -> Coordinator {
    Coordinator { transactions: Transactions::default(), endings: Vec::new() }
}

fn partition(number: i32) -> TopicPartition {
    TopicPartition::new("t", number)
}

impl Coordinator {
    fn init(&mut self, known: Option<ProducerIdentity>) -> Result<ProducerIdentity, Code> {
        self.transactions.init(Some(&"id".into()), LONG, known, &mut self.endings)
    }

    fn ask(&mut self, by: ProducerIdentity, request: TransactionRequest) -> Result<(), Code> {
        self.transactions.request(NOW, &"id".into(), by, request, &mut self.endings)
    }

    fn add(&mut self, by: ProducerIdentity, number: i32) -> Result<(), Code> {
        self.ask(by, TransactionRequest::AddPartitions(vec![partition(number)]))
    }

    fn end(&mut self, by: ProducerIdentity, commit: bool) -> Result<(), Code> {
        self.ask(by, TransactionRequest::End { commit })
    }
}

#[test]
fn a_transaction_is_told_to_everything_it_touched() {
    let mut c = coordinator();
    let by = c.init(None).expect("an identity");
    c.add(by, 1).expect("added");
    c.add(by, 0).expect("added");
    c.ask(by, TransactionRequest::AddOffsets { group: "g".into() }).expect("added");
    assert_eq!(c.transactions.verify(by, &partition(1)), Ok(()));
    assert_eq!(c.transactions.verify(by, &partition(2)), Err(Code::InvalidTxnState));
    assert_eq!(c.transactions.verify_group(by, &"g".into()), Ok(()));
    c.end(by, true).expect("decided");
    let targets =
        vec![Target::Log(partition(0)), Target::Log(partition(1)), Target::Group("g".into())];
    let transactional_id = "id".into();
    assert_eq!(c.endings, [Ending { transactional_id, producer: by, commit: true, targets }]);
    assert_eq!(c.transactions.verify(by, &partition(1)), Err(Code::InvalidTxnState));
}

#[test]
fn while_one_transaction_ends_the_next_waits() {
    let mut c = coordinator();
    let by = c.init(None).expect("an identity");
    c.add(by, 0).expect("added");
    c.end(by, true).expect("decided");
    assert_eq!(c.add(by, 0), Err(Code::ConcurrentTransactions));
    assert_eq!(c.init(None), Err(Code::ConcurrentTransactions));
    assert_eq!(c.transactions.unfinished().count(), 1);
    c.transactions.ended("id");
    assert_eq!(c.transactions.unfinished().count(), 0);
    assert_eq!(c.add(by, 0), Ok(()));
}

#[test]
fn an_end_that_is_asked_for_again_is_answered_alike_and_its_opposite_is_refused() {
    let mut c = coordinator();
    let by = c.init(None).expect("an identity");
    assert_eq!(c.end(by, true), Err(Code::InvalidTxnState), "nothing was begun");
    c.add(by, 0).expect("added");
    c.end(by, true).expect("decided");
    assert_eq!(c.end(by, true), Err(Code::ConcurrentTransactions));
    assert_eq!(c.end(by, false), Err(Code::InvalidTxnState));
    c.transactions.ended("id");
    assert_eq!(c.end(by, true), Ok(()));
    assert_eq!(c.end(by, false), Err(Code::InvalidTxnState));
    assert_eq!(c.endings.len(), 1);
}

#[test]
fn a_new_owner_of_an_id_fences_the_old_one_and_ends_its_transaction_first() {
    let mut c = coordinator();
    let old = c.init(None).expect("an identity");
    c.add(old, 0).expect("added");
    assert_eq!(c.init(None), Err(Code::ConcurrentTransactions));
    let ending = c.endings.pop().expect("an abort");
    assert!(!ending.commit && ending.producer.epoch > old.epoch, "its markers fence, too");
    assert_eq!(c.end(old, true), Err(Code::InvalidProducerEpoch));
    assert_eq!(c.transactions.verify(old, &partition(0)), Err(Code::InvalidProducerEpoch));
    c.transactions.ended("id");
    let new = c.init(None).expect("an identity");
    assert!(new.id == old.id && new.epoch > ending.producer.epoch);
    assert_eq!(c.init(Some(old)), Err(Code::ProducerFenced));
}

#[test]
fn an_owner_that_asks_for_its_next_epoch_may_ask_again_when_the_answer_is_lost() {
    let mut c = coordinator();
    let first = c.init(None).expect("an identity");
    let second = c.init(Some(first)).expect("the next");
    assert_eq!(second.epoch, first.epoch + 1);
    assert_eq!(c.init(Some(first)), Ok(second));
    let third = c.init(None).expect("another owner");
    assert!(third.epoch > second.epoch);
    assert_eq!(c.init(Some(first)), Err(Code::ProducerFenced));
}

#[test]
fn what_is_open_for_too_long_is_aborted_and_its_producer_fenced() {
    let mut c = coordinator();
    let by = c.init(None).expect("an identity");
    assert_eq!(c.transactions.wake(), None);
    c.add(by, 0).expect("added");
    assert_eq!(c.transactions.wake(), Some(NOW + LONG));
    assert_eq!(c.transactions.turn(NOW + LONG - Duration::from_nanos(1)), []);
    let endings = c.transactions.turn(NOW + LONG);
    assert!(matches!(&endings[..], [ending] if !ending.commit));
    assert_eq!((c.transactions.wake(), c.transactions.turn(NOW + LONG)), (None, vec![]));
    assert_eq!(c.end(by, true), Err(Code::InvalidProducerEpoch));
}

#[test]
fn epochs_that_run_out_go_on_under_another_id() {
    let mut c = coordinator();
    let first = c.init(None).expect("an identity");
    let mut last = first;
    for _ in 0..i32::from(i16::MAX) {
        let next = c.init(None).expect("an identity");
        assert!(next.epoch < i16::MAX && next != last);
        last = next;
    }
    assert!(last.id > first.id);
}

#[test]
fn without_a_transactional_id_each_producer_is_another_one() {
    let mut c = coordinator();
    let mut one = || c.transactions.init(None, LONG, None, &mut c.endings).expect("an identity");
    assert_ne!(one().id, one().id);
}

#[test]
fn whom_nobody_knows_is_told_so() {
    let mut c = coordinator();
    let nobody = ProducerIdentity { id: 7, epoch: 0 };
    assert_eq!(c.end(nobody, true), Err(Code::UnknownProducerId));
    c.init(None).expect("an identity");
    assert_eq!(c.end(nobody, true), Err(Code::UnknownProducerId));
    assert_eq!(c.transactions.verify(nobody, &partition(0)), Err(Code::UnknownProducerId));
}
