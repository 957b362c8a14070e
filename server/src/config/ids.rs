//! Member and cluster ids exactly as etcd computes them at bootstrap.
//!
//! Both are the first eight bytes, big endian, of a SHA-1. They only name things; nothing rests on
//! the hash being strong.

use sha1::{Digest, Sha1};

use super::Url;

/// Hash over the member's sorted peer URLs, joined without a separator, and the cluster token.
pub fn member_id(peer_urls: &[Url], token: &str) -> u64 {
    let mut urls: Vec<&str> = peer_urls.iter().map(Url::as_str).collect();
    urls.sort_unstable();
    let mut hash = Sha1::new();
    for url in urls {
        hash.update(url);
    }
    hash.update(token);
    first_eight(hash)
}

/// Hash over the sorted member ids, eight big-endian bytes each.
pub fn cluster_id(member_ids: impl IntoIterator<Item = u64>) -> u64 {
    let mut members: Vec<u64> = member_ids.into_iter().collect();
    members.sort_unstable();
    let mut hash = Sha1::new();
    for id in members {
        hash.update(id.to_be_bytes());
    }
    first_eight(hash)
}

fn first_eight(hash: Sha1) -> u64 {
    let digest = hash.finalize();
    let (head, _) = digest.split_first_chunk::<8>().expect("a SHA-1 has twenty bytes");
    u64::from_be_bytes(*head)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn urls(list: &[&str]) -> Vec<Url> {
        list.iter().map(|text| Url::parse(text).unwrap()).collect()
    }

    /// What a real etcd logs when it starts without any flag.
    #[test]
    fn defaults_have_the_ids_of_a_default_etcd() {
        let member = member_id(&urls(&["http://localhost:2380"]), "etcd-cluster");
        assert_eq!(format!("{member:x}"), "8e9e05c52164694d");
        assert_eq!(format!("{:x}", cluster_id([member])), "cdf818194e3a8c32");
    }
    /// Several peer URLs, given unsorted, and a token of one's own.
    #[test]
    fn urls_are_sorted_and_the_token_counts() {
        let member = member_id(&urls(&["http://127.0.0.1:23809", "http://10.0.0.1:2380"]), "tok");
        assert_eq!(format!("{member:x}"), "9830c6cfa170fc63");
        assert_eq!(format!("{:x}", cluster_id([member])), "59851c872e989afa");
    }
}
