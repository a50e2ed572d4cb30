# Run with: buildgate test policies/registry-gatekeeper

package docker

digest := "sha256:4b7ce07002c69e8f3d704a9c5d6fd3053be500b7f1c69fc0d80990c2ad8dd412"

commit := "9fd4a9c8a1b6f6a1e3a0d6a5d0c1b2e3f4a5b6c7"

pinned_node := {"image": {
	"ref": sprintf("docker.io/library/node:22@%s", [digest]),
	"host": "docker.io",
	"fullRepo": "docker.io/library/node",
	"tag": "22",
	"isCanonical": true,
	"checksum": digest,
}}

unpinned_node := {"image": {
	"ref": "docker.io/library/node:22",
	"host": "docker.io",
	"fullRepo": "docker.io/library/node",
	"tag": "22",
}}

frontend := {"image": {
	"ref": "docker.io/docker/dockerfile:1",
	"host": "docker.io",
	"fullRepo": "docker.io/docker/dockerfile",
	"tag": "1",
}}

cache := {
	"image": {
		"ref": "registry.example.com/build/cache:main",
		"host": "registry.example.com",
		"fullRepo": "registry.example.com/build/cache",
		"tag": "main",
	},
	"env": {"cacheImport": true, "depth": 0},
}

repository(fields) := {"git": object.union(
	{
		"schema": "https",
		"host": "github.com",
		"remote": "https://github.com/example-org/lib.git",
	},
	fields,
)}

# Local

test_local_context_allowed if allow with input as {"local": {"name": "context"}}

test_local_context_has_no_message if {
	count(deny_msg) == 0 with input as {"local": {"name": "context"}}
}

# Images

test_pinned_image_allowed if allow with input as pinned_node

test_pinned_image_has_no_message if count(deny_msg) == 0 with input as pinned_node

test_unpinned_image_denied if not allow with input as unpinned_node

test_unpinned_image_message if {
	deny_msg == {"Image docker.io/library/node:22 is not pinned: name the digest too, as in docker.io/library/node:22@sha256:…."} with input as unpinned_node
}

test_unknown_registry_denied if {
	not allow with input as {"image": {
		"ref": sprintf("quay.io/acme/tool@%s", [digest]),
		"host": "quay.io",
		"fullRepo": "quay.io/acme/tool",
		"isCanonical": true,
	}}
}

test_unknown_registry_message if {
	some msg in deny_msg with input as {"image": {
		"ref": "quay.io/acme/tool:1",
		"host": "quay.io",
		"fullRepo": "quay.io/acme/tool",
	}}
	contains(msg, "use one of docker.io, ghcr.io, registry.example.com.")
}

test_unknown_registry_and_tag_say_both if {
	count(deny_msg) == 2 with input as {"image": {
		"ref": "quay.io/acme/tool:1",
		"host": "quay.io",
		"fullRepo": "quay.io/acme/tool",
	}}
}

test_registry_port_is_another_registry if {
	not allow with input as {"image": {
		"ref": sprintf("registry.example.com:5000/tool@%s", [digest]),
		"host": "registry.example.com:5000",
		"fullRepo": "registry.example.com:5000/tool",
		"isCanonical": true,
	}}
}

test_frontend_by_tag_allowed if allow with input as frontend

test_frontend_by_tag_has_no_message if count(deny_msg) == 0 with input as frontend

test_lookalike_frontend_denied if {
	not allow with input as {"image": {
		"ref": "ghcr.io/docker/dockerfile:1",
		"host": "ghcr.io",
		"fullRepo": "ghcr.io/docker/dockerfile",
	}}
}

# Cache imports

test_approved_cache_allowed if allow with input as cache

test_approved_cache_has_no_message if count(deny_msg) == 0 with input as cache

test_pinned_image_is_no_cache if {
	not allow with input as object.union(pinned_node, {"env": {"cacheImport": true, "depth": 0}})
}

test_frontend_is_no_cache if {
	not allow with input as object.union(frontend, {"env": {"cacheImport": true, "depth": 0}})
}

test_unknown_cache_message if {
	deny_msg == {"Cache docker.io/library/node:22 may not be imported: use one of registry.example.com/build/cache."} with input as object.union(
		unpinned_node,
		{"env": {"cacheImport": true, "depth": 0}},
	)
}

# Downloads

test_https_download_allowed if {
	allow with input as {"http": {"schema": "https", "host": "example.com", "path": "/a.tgz"}}
}

test_http_download_denied if {
	not allow with input as {"http": {"schema": "http", "host": "example.com", "path": "/a.tgz"}}
}

test_http_download_message if {
	deny_msg == {"Download from example.com travels unprotected over plain HTTP: use https://example.com/a.tgz."} with input as {"http": {
		"schema": "http",
		"host": "example.com",
		"path": "/a.tgz",
	}}
}

# Git repositories

test_git_commit_allowed if allow with input as repository({"isCommitRef": true, "checksum": commit})

test_git_commit_has_no_message if {
	count(deny_msg) == 0 with input as repository({"isCommitRef": true, "checksum": commit})
}

test_git_protected_branch_allowed if {
	allow with input as repository({"ref": "refs/heads/main", "branch": "main"})
}

test_git_other_branch_denied if {
	not allow with input as repository({"ref": "refs/heads/wip", "branch": "wip"})
}

test_git_other_branch_message if {
	deny_msg == {"Git repository https://github.com/example-org/lib.git is taken at a reference that can move: name a full commit, or one of refs/heads/main, refs/heads/release."} with input as repository({
		"ref": "refs/heads/wip",
		"branch": "wip",
	})
}

test_git_tag_named_like_the_branch_denied if {
	not allow with input as repository({"ref": "refs/tags/main", "tagName": "main"})
}

test_git_unknown_host_denied if {
	not allow with input as {"git": {
		"schema": "https",
		"host": "git.evil.example",
		"remote": "https://git.evil.example/lib.git",
		"isCommitRef": true,
	}}
}

test_git_unknown_host_message if {
	deny_msg == {"Git repository https://git.evil.example/lib.git is on git.evil.example, which is no approved host: use one of github.com, git.example.com."} with input as {"git": {
		"schema": "https",
		"host": "git.evil.example",
		"remote": "https://git.evil.example/lib.git",
		"ref": "refs/heads/main",
	}}
}

test_git_ssh_allowed if {
	allow with input as repository({
		"schema": "ssh",
		"remote": "git@github.com:example-org/lib.git",
		"isCommitRef": true,
	})
}

test_git_plain_transport_denied if {
	not allow with input as repository({"schema": "git", "isCommitRef": true})
}

test_git_plain_transport_message if {
	deny_msg == {"Git repository http://github.com/example-org/lib.git travels unprotected over http: use https:// or ssh."} with input as repository({
		"schema": "http",
		"remote": "http://github.com/example-org/lib.git",
		"isCommitRef": true,
	})
}

# Blobs and what else there is

test_blob_of_approved_registry_allowed if {
	allow with input as {"blob": {
		"scheme": "docker-image+blob",
		"host": "ghcr.io",
		"fullRepo": "ghcr.io/acme/app",
		"digest": digest,
	}}
}

test_blob_of_unknown_registry_message if {
	some msg in deny_msg with input as {"blob": {
		"scheme": "docker-image+blob",
		"host": "quay.io",
		"fullRepo": "quay.io/acme/app",
		"digest": digest,
	}}
	startswith(msg, "Blob quay.io/acme/app@sha256:4b7ce0")
}

test_blob_of_layout_denied if {
	not allow with input as {"blob": {
		"scheme": "oci-layout+blob",
		"fullRepo": "layout",
		"digest": digest,
	}}
}

test_oci_layout_denied if {
	not allow with input as {"ociLayout": {"name": "base", "digest": digest}}
}

test_oci_layout_message if {
	some msg in deny_msg with input as {"ociLayout": {"name": "base", "digest": digest}}
	startswith(msg, "OCI layout base has no registry")
}

test_nothing_known_denied if not allow with input as {}

# The whole decision

test_decision_when_allowed if {
	decision == {"allow": true, "deny_msg": set()} with input as pinned_node
}

test_decision_when_denied if {
	not decision.allow with input as unpinned_node
	count(decision.deny_msg) == 1 with input as unpinned_node
}
