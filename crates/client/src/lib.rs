//! The library for members and senders: it reconnects, resumes and retries safely.
