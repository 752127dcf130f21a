//! The client against a scripted node that says what a test wants it to say.

#[path = "client/errors.rs"]
mod errors;
#[path = "client/fake.rs"]
mod fake;
#[path = "client/member.rs"]
mod member;
#[path = "client/sender.rs"]
mod sender;
