//! Do the files of `deploy/` say what the code says? Each is parsed by its own rules, then held
//! against the settings, the endpoint and the exit codes it relies on.

#[cfg(test)]
mod compose;
#[cfg(test)]
mod image;
#[cfg(test)]
mod kubernetes;
#[cfg(test)]
mod promises;
#[cfg(test)]
mod round_trip;
#[cfg(test)]
mod systemd;
