//! One small program per question a newcomer asks.
//!
//! | question | program |
//! |---|---|
//! | What is the smallest worker? | `hello_worker` |
//! | How does one worker read several topics? | `several_topics` |
//! | How does a handler remember? | `stateful_count` |
//! | How do I test a handler without Kafka? | `test_a_handler` |
//! | Does my worker survive whatever happens? | `simulate_faults` |
//! | How does a worker live inside my service? | `embed_in_a_service` |
//! | How are many records handled at once, and each user's still in order? | `key_order` |
//! | What becomes of a record that fails, hangs or can't be read? | `retry_and_dead_letter` |
//! | What becomes of records while something that they need is down? | `retry_topics` |
//! | How are records inserted many at once? | `batch_insert` |
//! | How does something else complete a record? | `deferred_completion` |
//! | How does a program pause, slow down and rewind its worker? | `pause_and_seek` |
//!
//! Each starts with the command that runs it and says what you will see. All but
//! `test_a_handler` and `simulate_faults` want a Kafka with logins in it:
//!
//! ```sh
//! cargo kafka up          # starts one and prints its ADDRESS
//! cargo kafka tool topics --create --topic user_logins --partitions 3
//! cargo run -p load-generator -- --bootstrap-servers ADDRESS --generate 1000
//! ```
//!
//! Other topics that an example wants are made as `user_logins` is.
