//! The table `credential` of a provider's configuration. *Invariant:* there is no place in it for a secret itself.

use std::path::PathBuf;

use serde::Deserialize;

use super::secret::SecretRef;

/// In which header a key is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeyHeader {
    /// `x-api-key: KEY`, as Anthropic wants it.
    #[default]
    XApiKey,
    /// `authorization: Bearer KEY`, as OpenAI and most others want it.
    Bearer,
    /// `api-key: KEY`, as Azure wants it.
    ApiKey,
    /// `x-goog-api-key: KEY`, as the Gemini API wants it.
    XGoogApiKey,
}

/// How a provider is shown who we are. What platforms set by themselves (`AWS_ROLE_ARN`, `AZURE_CLIENT_ID`, …) is taken
/// from there unless it is given here. Every address can be another one, for private clouds.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum CredentialConfig {
    /// The provider wants none.
    None,
    /// A key in a header.
    Key {
        /// In which.
        header: KeyHeader,
        /// Where the key is.
        secret: SecretRef,
    },
    /// A Bedrock API key, as a bearer token; `env:AWS_BEARER_TOKEN_BEDROCK` unless given.
    AwsBearer {
        /// Where the key is.
        secret: Option<SecretRef>,
    },
    /// Access keys.
    AwsStatic {
        /// The region that is called; from `AWS_REGION` or `AWS_DEFAULT_REGION` unless given.
        region: Option<String>,
        /// Unless it is `bedrock`.
        service: Option<String>,
        /// `env:AWS_ACCESS_KEY_ID` unless given.
        access_key_id: Option<SecretRef>,
        /// `env:AWS_SECRET_ACCESS_KEY` unless given.
        secret_access_key: Option<SecretRef>,
        /// `env:AWS_SESSION_TOKEN` if that is set, unless given.
        session_token: Option<SecretRef>,
    },
    /// A profile of the shared files.
    AwsProfile {
        /// The region that is called.
        region: Option<String>,
        /// Unless it is `bedrock`.
        service: Option<String>,
        /// Unless it is `AWS_PROFILE`, or `default`.
        profile: Option<String>,
        /// Unless it is `~/.aws/credentials`.
        credentials_file: Option<PathBuf>,
        /// Unless it is `~/.aws/config`.
        config_file: Option<PathBuf>,
    },
    /// A role for a token that the platform writes into a file (EKS, GitHub, GitLab, any OpenID Connect provider).
    AwsWebIdentity {
        /// The region that is called.
        region: Option<String>,
        /// Unless it is `bedrock`.
        service: Option<String>,
        /// Unless it is `AWS_ROLE_ARN`.
        role_arn: Option<String>,
        /// Unless it is `AWS_WEB_IDENTITY_TOKEN_FILE`.
        token_file: Option<PathBuf>,
        /// Unless it is `AWS_ROLE_SESSION_NAME`, or `stockade`.
        session_name: Option<String>,
        /// Unless it is the region's security token service.
        endpoint: Option<String>,
    },
    /// The role of the instance.
    AwsInstance {
        /// The region that is called.
        region: Option<String>,
        /// Unless it is `bedrock`.
        service: Option<String>,
        /// Unless it is `http://169.254.169.254/`.
        endpoint: Option<String>,
    },
    /// The role of a container (ECS, EKS Pod Identity).
    AwsContainer {
        /// The region that is called.
        region: Option<String>,
        /// Unless it is `bedrock`.
        service: Option<String>,
        /// Unless it is where `AWS_CONTAINER_CREDENTIALS_FULL_URI` or `…_RELATIVE_URI` point.
        endpoint: Option<String>,
    },
    /// A role that is assumed with keys of another way: one in another account, say.
    AwsRole {
        /// The region that is called.
        region: Option<String>,
        /// Unless it is `bedrock`.
        service: Option<String>,
        /// Which role.
        role_arn: String,
        /// What the role's trust policy asks for.
        external_id: Option<String>,
        /// Unless it is `stockade`.
        session_name: Option<String>,
        /// Unless it is the region's security token service.
        endpoint: Option<String>,
        /// Any of Amazon's other ways with keys; `aws-default` unless given.
        from: Option<Box<CredentialConfig>>,
    },
    /// The first of these that the process's surroundings name: Bedrock API key, access keys in variables, web identity,
    /// profile, container, instance.
    AwsDefault {
        /// The region that is called.
        region: Option<String>,
        /// Unless it is `bedrock`.
        service: Option<String>,
    },
    /// A credentials file of Google: a service account's key, or a federation (`external_account`).
    GoogleFile {
        /// Unless it is `GOOGLE_APPLICATION_CREDENTIALS`.
        file: Option<PathBuf>,
        /// Unless it is the one in the file.
        endpoint: Option<String>,
    },
    /// The service account of the machine or pod.
    GoogleMetadata {
        /// Unless it is `http://169.254.169.254/`, or at `GCE_METADATA_HOST`.
        endpoint: Option<String>,
    },
    /// The file that `GOOGLE_APPLICATION_CREDENTIALS` names, or else the metadata server.
    GoogleDefault,
    /// An application of Entra ID, by its secret.
    EntraSecret {
        /// The tenant; unless it is `AZURE_TENANT_ID`.
        tenant: Option<String>,
        /// The application; unless it is `AZURE_CLIENT_ID`.
        client_id: Option<String>,
        /// `env:AZURE_CLIENT_SECRET` unless given.
        secret: Option<SecretRef>,
        /// Unless it is `AZURE_AUTHORITY_HOST`, or `https://login.microsoftonline.com/`.
        authority: Option<String>,
        /// Unless it is `https://cognitiveservices.azure.com/.default`.
        scope: Option<String>,
    },
    /// An application of Entra ID, by another identity provider's token in a file (AKS workload identity and others).
    EntraFederated {
        /// The tenant; unless it is `AZURE_TENANT_ID`.
        tenant: Option<String>,
        /// The application; unless it is `AZURE_CLIENT_ID`.
        client_id: Option<String>,
        /// Unless it is `AZURE_FEDERATED_TOKEN_FILE`.
        token_file: Option<PathBuf>,
        /// Unless it is `AZURE_AUTHORITY_HOST`, or `https://login.microsoftonline.com/`.
        authority: Option<String>,
        /// Unless it is `https://cognitiveservices.azure.com/.default`.
        scope: Option<String>,
    },
    /// The managed identity of the machine, app or container.
    EntraManaged {
        /// A user-assigned identity; otherwise the system's.
        client_id: Option<String>,
        /// Unless it is where `IDENTITY_ENDPOINT` points, or `http://169.254.169.254/`.
        endpoint: Option<String>,
        /// Unless it is `https://cognitiveservices.azure.com/.default`.
        scope: Option<String>,
    },
}

impl CredentialConfig {
    /// The same, with this region where it says none.
    #[must_use]
    pub fn in_region(mut self, place: Option<&str>) -> Self {
        match &mut self {
            Self::AwsStatic { region, .. }
            | Self::AwsProfile { region, .. }
            | Self::AwsWebIdentity { region, .. }
            | Self::AwsInstance { region, .. }
            | Self::AwsContainer { region, .. }
            | Self::AwsDefault { region, .. } => *region = region.take().or_else(|| place.map(str::to_owned)),
            Self::AwsRole { region, from, .. } => {
                *region = region.take().or_else(|| place.map(str::to_owned));
                *from = from.take().map(|from| Box::new(from.in_region(place)));
            }
            _ => {}
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_of_each_kind_reads() {
        let read = |text: &str| toml::from_str::<CredentialConfig>(text);
        let key = read("kind = \"key\"\nheader = \"api-key\"\nsecret = \"file:/run/secrets/azure\"").unwrap();
        let secret = SecretRef::File("/run/secrets/azure".into());
        assert_eq!(key, CredentialConfig::Key { header: KeyHeader::ApiKey, secret });
        for kind in [
            "none",
            "aws-bearer",
            "aws-static",
            "aws-profile",
            "aws-web-identity",
            "aws-instance",
            "aws-container",
            "aws-default",
            "google-file",
            "google-metadata",
            "google-default",
            "entra-secret",
            "entra-federated",
            "entra-managed",
        ] {
            assert!(read(&format!("kind = \"{kind}\"")).is_ok(), "{kind}");
        }
        let error = read("kind = \"key\"\nheader = \"bearer\"\nsecret = \"sk-this-is-it\"").unwrap_err();
        // The parser shows the line that it stands in; whoever shows the error takes only its message.
        assert!(error.message().contains("never the secret itself") && !error.message().contains("sk-this-is-it"));
        assert!(read("kind = \"aws-instance\"\nregoin = \"x\"").unwrap_err().to_string().contains("regoin"));
    }
}
