//! Which KMS, which key, and who asks.

use std::fmt;
use std::str::FromStr;

use anyhow::bail;

use super::credentials::Wallet;
use crate::config::SecretUrl;

/// A KMS and the credentials for it.
#[derive(Debug, Clone)]
pub struct KmsService {
    pub region: String,
    pub endpoint: SecretUrl,
    pub wallet: Wallet,
}

impl KmsService {
    /// The KMS of a region, or the one at `endpoint`, with the credentials that the environment variables of AWS's own tools
    /// name; see [`Wallet::find`]. `variable` reads one. Nothing is asked yet.
    pub fn find(
        region: &str,
        endpoint: Option<&SecretUrl>,
        variable: impl Fn(&str) -> Option<String>,
    ) -> anyhow::Result<Self> {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if region.is_empty() || !region.chars().all(plain) {
            bail!("--kms-region: is not a region's name, such as eu-central-1");
        }
        let endpoint = match endpoint {
            Some(endpoint) => endpoint.clone(),
            None => {
                let china = if region.starts_with("cn-") { ".cn" } else { "" };
                format!("https://kms.{region}.amazonaws.com{china}/")
                    .parse()
                    .map_err(anyhow::Error::msg)?
            }
        };
        let url = endpoint.reveal();
        let bare = url.path() == "/" && url.query().is_none();
        let anonymous = url.username().is_empty() && url.password().is_none();
        if !matches!(url.scheme(), "http" | "https") || !bare || !anonymous {
            bail!("--kms-endpoint: {endpoint}: is not the http or https URL of a host alone");
        }
        let wallet = Wallet::find(region, &variable)?;
        Ok(Self { region: region.to_owned(), endpoint, wallet })
    }
}

/// A key's name in KMS: its id, its ARN, or an alias. Nothing secret; what looks like anything else is refused without being
/// repeated, because it may be a secret in the wrong place.
#[derive(Clone, PartialEq, Eq)]
pub struct KmsKeyId(String);

impl KmsKeyId {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for KmsKeyId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, ':' | '/' | '_' | '-');
        let known = text.len() <= 2048
            && text.chars().all(plain)
            && (text.starts_with("arn:aws")
                || text.starts_with("alias/")
                || text.starts_with("mrk-")
                || (text.len() == 36 && uuid::Uuid::try_parse(text).is_ok()));
        if !known {
            return Err(
                "is not the id, the ARN or an alias (alias/NAME) of a key in AWS KMS".into()
            );
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Debug for KmsKeyId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl fmt::Display for KmsKeyId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_in_the_place_of_a_key_id_is_refused_and_not_repeated() {
        for name in [
            "1234abcd-12ab-34cd-56ef-1234567890ab",
            "arn:aws:kms:us-east-2:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab",
            "alias/auspex_signer",
            "mrk-1234abcd12ab34cd56ef1234567890ab",
        ] {
            assert_eq!(name.parse::<KmsKeyId>().unwrap().as_str(), name);
        }
        for secret in [
            "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
            "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80",
            "ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80",
            "alias/no spaces",
            "",
        ] {
            let error = secret.parse::<KmsKeyId>().unwrap_err();
            assert!(secret.is_empty() || !error.contains(secret), "{error}");
        }
    }

    #[test]
    fn a_service_is_its_region_and_credentials_from_the_environment() {
        let all = |name: &str| Some(format!("CANARY-{name}"));
        let service = KmsService::find("eu-central-1", None, all).unwrap();
        assert_eq!(service.endpoint.reveal().as_str(), "https://kms.eu-central-1.amazonaws.com/");
        let shown = format!("{service:?}");
        assert!(!shown.contains("CANARY-AWS_SECRET") && !shown.contains("CANARY-AWS_SESSION"));
        let china = KmsService::find("cn-north-1", None, all).unwrap();
        assert_eq!(china.endpoint.reveal().host_str(), Some("kms.cn-north-1.amazonaws.com.cn"));
        let without = |name: &str| (name != "AWS_SECRET_ACCESS_KEY").then(|| "x".to_owned());
        let error = KmsService::find("eu-central-1", None, without).unwrap_err().to_string();
        assert!(error.contains("AWS_SECRET_ACCESS_KEY"), "{error}");
        assert!(KmsService::find("nowhere.example/", None, all).is_err());
        for odd in ["http://127.0.0.1:1/path", "http://user:CANARY@127.0.0.1:1/"] {
            let odd: SecretUrl = odd.parse().unwrap();
            let error = KmsService::find("eu-central-1", Some(&odd), all).unwrap_err().to_string();
            assert!(!error.contains("CANARY"), "{error}");
        }
    }
}
