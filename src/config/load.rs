//! `[load]`: where load is played to.

use serde::{Deserialize, Serialize};

/// `[load]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Load {
    /// Routers that are asked, as `host:port`; a read that one does not answer is repeated at another.
    pub routers: Vec<String>,
}

impl Default for Load {
    fn default() -> Self {
        Self { routers: vec!["127.0.0.1:7073".into()] }
    }
}

impl Load {
    /// Tells (key, reason, remedy) of what does not hold.
    pub(super) fn check(&self) -> Vec<(&'static str, String, &'static str)> {
        let mut res = Vec::new();
        let remedy = "set it to `[\"127.0.0.1:7073\"]`";
        if self.routers.is_empty() {
            res.push(("load.routers", "there is nobody to ask".into(), remedy));
        }
        if let Some(err) = self.routers.iter().find_map(|it| router(it).err()) {
            res.push(("load.routers", err, remedy));
        }
        res
    }
}

/// Reads where a router is, as `host:port`.
pub fn router(text: &str) -> Result<String, String> {
    match text.rsplit_once(':').map(|(host, port)| (host, port.parse::<u16>())) {
        Some((host, Ok(1..))) if !host.is_empty() && !host.contains(['/', ' ', '@']) => {
            Ok(text.into())
        }
        _ => Err(format!("`{text}` is no host and port, such as 127.0.0.1:7073")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn router_is_a_host_and_a_port() {
        for right in ["127.0.0.1:7073", "router-1.example:1", "[::1]:65535"] {
            assert_eq!(router(right).unwrap(), right);
        }
        for wrong in ["", "127.0.0.1", ":7073", "h:0", "h:65536", "h:x", "http://h:1", "a b:1"] {
            assert!(router(wrong).is_err(), "{wrong}");
        }
        assert_eq!(Load::default().check(), []);
        let none = Load { routers: Vec::new() };
        assert_eq!(none.check().len(), 1);
    }
}
