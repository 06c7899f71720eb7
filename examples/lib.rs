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
