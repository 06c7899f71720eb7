//! Why can't a broker's certificate be trusted? librdkafka only says that it can't, so the
//! handshake is made once more, and OpenSSL is asked.

use std::net::{TcpStream, ToSocketAddrs as _};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use openssl::error::ErrorStack;
use openssl::ssl::{SslConnector, SslMethod, SslVerifyMode};
use openssl::x509::X509;

use crate::config::KafkaSettings;

/// Connecting, and each word of the handshake, may take so long.
const PATIENCE: Duration = Duration::from_secs(2);

/// Which certificates are trusted: what librdkafka is told of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Trust {
    authority_file: Option<String>,
    authority: Option<String>,
    any_host: bool,
}

impl Trust {
    /// As these settings of librdkafka have it.
    pub(crate) fn of(settings: &KafkaSettings) -> Self {
        let value = |name: &str| {
            let found = settings.iter().find(|(found, _)| *found == name);
            found.map(|(_, value)| value.to_owned())
        };
        Self {
            authority_file: value("ssl.ca.location"),
            authority: value("ssl.ca.pem"),
            any_host: value("ssl.endpoint.identification.algorithm").is_some_and(|a| a == "none"),
        }
    }

    /// What is wrong with the certificate of the broker that an error of librdkafka's names.
    /// `None` if it can't be found out. Blocks, for some seconds at most.
    pub(crate) fn verdict(&self, error: &str) -> Option<String> {
        let (host, address) = address_in(error)?;
        let found = Arc::new(Mutex::new(None));
        let connector = self.connector(&found).ok()?;
        let stream = address
            .to_socket_addrs()
            .ok()?
            .find_map(|address| TcpStream::connect_timeout(&address, PATIENCE).ok())?;
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        let configuration = connector.configure().ok()?.verify_hostname(!self.any_host);
        let _failed_as_expected = configuration.connect(host, stream);
        let verdict = found.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        Some(format!("{address}: the broker's certificate is not accepted: {verdict}"))
    }

    /// Leaves the first reason in `found`.
    fn connector(&self, found: &Arc<Mutex<Option<String>>>) -> Result<SslConnector, ErrorStack> {
        let mut builder = SslConnector::builder(SslMethod::tls_client())?;
        if let Some(file) = &self.authority_file {
            builder.set_ca_file(file)?;
        }
        if let Some(pem) = &self.authority {
            for certificate in X509::stack_from_pem(pem.as_bytes())? {
                builder.cert_store_mut().add_cert(certificate)?;
            }
        }
        let found = Arc::clone(found);
        builder.set_verify_callback(SslVerifyMode::PEER, move |good, context| {
            if !good {
                let error = context.error().error_string();
                let until = context.current_cert().map(|certificate| {
                    format!(
                        " (valid from {} to {})",
                        certificate.not_before(),
                        certificate.not_after()
                    )
                });
                let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
                found.get_or_insert_with(|| format!("{error}{}", until.unwrap_or_default()));
            }
            good
        });
        Ok(builder.build())
    }
}

/// The host, and the host with its port, in `sasl_ssl://host:port/bootstrap: …`.
fn address_in(error: &str) -> Option<(&str, &str)> {
    let after = error.split_once("ssl://")?.1;
    let address = after.split(['/', ' ']).next()?.trim_end_matches(':');
    let host = address.rsplit_once(':')?.0.trim_matches(['[', ']']);
    Some((host, address))
}

#[cfg(test)]
mod tests {
    use super::address_in;

    #[test]
    fn the_brokers_address_is_found_in_librdkafkas_words() {
        let error = "sasl_ssl://kafka.example:9093/bootstrap: SSL handshake failed: error:0A000086";
        assert_eq!(address_in(error), Some(("kafka.example", "kafka.example:9093")));
        let error = "ssl://[::1]:9093/1: SSL handshake failed";
        assert_eq!(address_in(error), Some(("::1", "[::1]:9093")));
        assert_eq!(address_in("localhost:9092/bootstrap: refused"), None);
    }
}
