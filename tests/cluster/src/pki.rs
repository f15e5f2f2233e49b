//! The keys and certificates of one cluster. They live as files in its folder: the API server reads nothing else.

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};

use crate::folder::Folder;

/// What the administrator's client needs, in PEM.
pub(crate) struct Pki {
    pub(crate) authority: String,
    pub(crate) admin_certificate: String,
    pub(crate) admin_key: String,
}

/// Writes `ca.crt`, `apiserver.crt`, `front-proxy-ca.crt`, `front-proxy-client.crt`, their keys, `sa.key` and `sa.pub`.
pub(crate) fn write(folder: &Folder) -> Pki {
    let save = |name: &str, text: &str| std::fs::write(folder.file(name), text).unwrap();
    let authority = issuer("kvasir-test-ca");
    let front_proxy = issuer("kvasir-test-front-proxy-ca");
    save("ca.crt", &authority.pem());
    save("front-proxy-ca.crt", &front_proxy.pem());

    // `localhost` and 10.0.0.1, the first address of the service range, as clients inside a cluster would see it.
    let names = ["localhost", "kubernetes.default.svc", "127.0.0.1", "10.0.0.1"].map(str::to_owned);
    let (certificate, key) = leaf(&authority, "kube-apiserver", None, &names, ExtendedKeyUsagePurpose::ServerAuth);
    save("apiserver.crt", &certificate);
    save("apiserver.key", &key);
    let (certificate, key) = leaf(&front_proxy, "front-proxy-client", None, &[], ExtendedKeyUsagePurpose::ClientAuth);
    save("front-proxy-client.crt", &certificate);
    save("front-proxy-client.key", &key);
    let accounts = KeyPair::generate().unwrap();
    save("sa.key", &accounts.serialize_pem());
    save("sa.pub", &accounts.public_key_pem());

    let group = Some("system:masters");
    let (admin_certificate, admin_key) = leaf(&authority, "admin", group, &[], ExtendedKeyUsagePurpose::ClientAuth);
    Pki { authority: authority.pem(), admin_certificate, admin_key }
}

fn issuer(name: &str) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A certificate and its key, in PEM. The API server takes the user from `name` and the groups from `group`.
fn leaf(
    issuer: &CertifiedIssuer<'static, KeyPair>,
    name: &str,
    group: Option<&str>,
    addresses: &[String],
    usage: ExtendedKeyUsagePurpose,
) -> (String, String) {
    let mut params = CertificateParams::new(addresses).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    if let Some(group) = group {
        params.distinguished_name.push(DnType::OrganizationName, group);
    }
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.insert_extended_key_usage(usage);
    let key = KeyPair::generate().unwrap();
    (params.signed_by(&key, issuer).unwrap().pem(), key.serialize_pem())
}
