//! Which certificates does a cluster with TLS need, good ones and bad ones?

use std::fs;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    date_time_ymd,
};

use crate::ClusterError;

/// Files of PEM, made anew for each cluster: two authorities that know nothing of each other,
/// server and client certificates.
#[derive(Clone, Debug)]
pub(crate) struct Certificates {
    folder: PathBuf,
}

impl Certificates {
    /// Makes them; `client` is the name that the client's certificate bears.
    pub(crate) fn make(folder: &Path, client: &str) -> Result<Self, ClusterError> {
        fs::create_dir_all(folder).map_err(ClusterError::io(folder.display().to_string()))?;
        let this = Self { folder: folder.to_owned() };
        let authority = this.authority("ca", "the tests' authority")?;
        let unrelated = this.authority("other-ca", "an authority that nobody knows")?;
        this.signed("server", "localhost", &authority, |_| {})?;
        this.signed("expired", "localhost", &authority, |of| {
            (of.not_before, of.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2021, 1, 1));
        })?;
        this.signed("client", client, &authority, |_| {})?;
        this.signed("other-client", client, &unrelated, |_| {})?;
        Ok(this)
    }

    /// The authority that signed what the cluster and its clients show.
    pub(crate) fn authority_file(&self) -> PathBuf {
        self.folder.join("ca.pem")
    }

    /// An authority that signed nothing of it.
    pub(crate) fn other_authority_file(&self) -> PathBuf {
        self.folder.join("other-ca.pem")
    }

    /// A certificate by its name: `server`, `expired`, `client`, `other-client`.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.pem"))
    }

    /// Its private key.
    pub(crate) fn key_file(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.key"))
    }

    /// Certificate and key in one file, as Kafka's brokers take them.
    pub(crate) fn key_store(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.both.pem"))
    }

    fn authority(
        &self,
        name: &str,
        common_name: &str,
    ) -> Result<Issuer<'static, KeyPair>, ClusterError> {
        let mut of = params(common_name)?;
        of.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        of.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().map_err(refused)?;
        let certificate = of.self_signed(&key).map_err(refused)?;
        self.write(&format!("{name}.pem"), &certificate.pem())?;
        Ok(Issuer::new(of, key))
    }

    fn signed(
        &self,
        name: &str,
        common_name: &str,
        by: &Issuer<'static, KeyPair>,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Result<(), ClusterError> {
        let mut of = params(common_name)?;
        change(&mut of);
        let key = KeyPair::generate().map_err(refused)?;
        let certificate = of.signed_by(&key, by).map_err(refused)?;
        let (certificate, key) = (certificate.pem(), key.serialize_pem());
        self.write(&format!("{name}.pem"), &certificate)?;
        self.write(&format!("{name}.key"), &key)?;
        self.write(&format!("{name}.both.pem"), &format!("{certificate}{key}"))
    }

    fn write(&self, name: &str, text: &str) -> Result<(), ClusterError> {
        fs::write(self.folder.join(name), text).map_err(ClusterError::io(name))
    }
}

/// For this machine, under a name.
fn params(common_name: &str) -> Result<CertificateParams, ClusterError> {
    let hosts = ["localhost", "127.0.0.1"].map(str::to_owned);
    let mut of = CertificateParams::new(hosts).map_err(refused)?;
    of.distinguished_name = rcgen::DistinguishedName::new();
    of.distinguished_name.push(DnType::CommonName, common_name);
    Ok(of)
}

fn refused(error: rcgen::Error) -> ClusterError {
    ClusterError::refused("making certificates", error)
}
