# Run with: buildgate test policies/production-lockdown
#
# The tests stop short of the signature itself: what is put before it, and who is asked for one, is
# tested here; a signature needs your own keys.

package docker

approved := "sha256:2222222222222222222222222222222222222222222222222222222222222222"

other := "sha256:9999999999999999999999999999999999999999999999999999999999999999"

builder := "https://github.com/example-org/builds/.github/workflows/build.yml@refs/heads/main"

alpine(fields) := {"image": object.union(
	{
		"ref": "docker.io/library/alpine:3.22",
		"host": "docker.io",
		"fullRepo": "docker.io/library/alpine",
		"tag": "3.22",
	},
	fields,
)}

own_image(fields) := {"image": object.union(
	{
		"ref": sprintf("registry.example.com/app@%s", [other]),
		"host": "registry.example.com",
		"fullRepo": "registry.example.com/app",
		"isCanonical": true,
		"checksum": other,
	},
	fields,
)}

provenance(by, uri) := {
	"hasProvenance": true,
	"provenance": {"builderID": by, "configSource": {"uri": uri}},
}

download(fields) := {"http": object.union(
	{"schema": "https", "host": "artifacts.example.com", "path": "/tool.tgz"},
	fields,
)}

repository(remote, fields) := {"git": object.union({"schema": "https", "remote": remote}, fields)}

# Local

test_local_context_allowed if allow with input as {"local": {"name": "context"}}

test_local_context_has_no_message if {
	count(deny_msg) == 0 with input as {"local": {"name": "context"}}
}

# Base images

test_approved_digest_allowed if {
	allow with input as alpine({"isCanonical": true, "checksum": approved})
}

test_approved_digest_has_no_message if {
	count(deny_msg) == 0 with input as alpine({"isCanonical": true, "checksum": approved})
}

test_other_digest_denied if {
	not allow with input as alpine({"isCanonical": true, "checksum": other})
}

test_other_digest_message if {
	some msg in deny_msg with input as alpine({"isCanonical": true, "checksum": other})
	endswith(msg, sprintf("has a digest that was not approved: use %s.", [approved]))
}

test_tag_denied_even_at_the_approved_digest if {
	not allow with input as alpine({"checksum": approved})
}

test_tag_message if {
	deny_msg == {sprintf("Image docker.io/library/alpine:3.22 is not pinned: use an approved digest, as in docker.io/library/alpine@%s.", [approved])} with input as alpine({})
}

test_approved_digest_of_another_repository_denied if {
	not allow with input as alpine({
		"fullRepo": "docker.io/evil/alpine",
		"isCanonical": true,
		"checksum": approved,
	})
}

test_unknown_image_message if {
	some msg in deny_msg with input as alpine({
		"ref": "docker.io/library/node:22",
		"fullRepo": "docker.io/library/node",
	})
	contains(msg, "use one of docker.io/docker/dockerfile, docker.io/library/alpine, or an image of registry.example.com.")
}

test_frontend_by_tag_denied if {
	not allow with input as {"image": {
		"ref": "docker.io/docker/dockerfile:1",
		"host": "docker.io",
		"fullRepo": "docker.io/docker/dockerfile",
	}}
}

# Internal images

test_internal_with_provenance_allowed if {
	allow with input as own_image(provenance(builder, "https://github.com/example-org/app.git#refs/heads/main"))
}

test_internal_with_provenance_has_no_message if {
	count(deny_msg) == 0 with input as own_image(provenance(builder, "https://github.com/example-org/app.git"))
}

test_internal_without_provenance_denied if not allow with input as own_image({})

test_internal_without_provenance_message if {
	deny_msg == {"Internal image registry.example.com/app:1 has no provenance: build it in our pipeline, with --provenance=mode=max."} with input as own_image({"ref": "registry.example.com/app:1"})
}

test_internal_of_another_builder_message if {
	some msg in deny_msg with input as own_image(provenance("https://evil.example", "https://github.com/example-org/app.git"))
	contains(msg, sprintf("must name the builder %s.", [builder]))
}

test_internal_of_another_builder_denied if {
	not allow with input as own_image(provenance("https://evil.example", "https://github.com/example-org/app.git"))
}

test_internal_of_another_source_message if {
	some msg in deny_msg with input as own_image(provenance(builder, "https://github.com/example-org-evil/app.git"))
	contains(msg, "must name a source under https://github.com/example-org/.")
}

test_internal_of_another_source_denied if {
	not allow with input as own_image(provenance(builder, "https://github.com/example-org-evil/app.git"))
}

test_internal_with_provenance_of_no_source_denied if {
	not allow with input as own_image({"hasProvenance": true, "provenance": {"builderID": builder}})
}

test_internal_with_empty_provenance_says_both if {
	count(deny_msg) == 2 with input as own_image({"hasProvenance": true})
}

test_internal_by_tag_denied if {
	not allow with input as own_image(object.union(
		{"isCanonical": false},
		provenance(builder, "https://github.com/example-org/app.git"),
	))
}

test_internal_by_tag_message if {
	deny_msg == {"Internal image registry.example.com/app:1 is not pinned: name the digest too, as in registry.example.com/app:1@sha256:…."} with input as own_image({
		"ref": "registry.example.com/app:1",
		"isCanonical": false,
	})
}

# Caches

test_cache_denied if {
	not allow with input as object.union(
		own_image(provenance(builder, "https://github.com/example-org/app.git")),
		{"env": {"cacheImport": true, "depth": 0}},
	)
}

test_cache_message if {
	deny_msg == {"Cache registry.example.com/app:1 may not be imported: build without --cache-from."} with input as object.union(
		own_image({"ref": "registry.example.com/app:1"}),
		{"env": {"cacheImport": true, "depth": 0}},
	)
}

# Downloads

test_download_allowed if {
	allow with input as download({"declaredChecksum": approved})
}

test_download_has_no_message if {
	count(deny_msg) == 0 with input as download({"declaredChecksum": approved})
}

test_download_without_checksum_denied if not allow with input as download({})

test_download_without_checksum_message if {
	deny_msg == {"Download /tool.tgz from artifacts.example.com declares no checksum: use ADD --checksum=sha256:…."} with input as download({})
}

# What was fetched has a checksum always; it says nothing about what was expected.
test_download_with_a_fetched_checksum_denied if {
	not allow with input as download({"checksum": approved})
}

test_download_of_another_host_message if {
	deny_msg == {"Download from evil.example is not allowed: put the file on one of artifacts.example.com, releases.example.com."} with input as download({
		"host": "evil.example",
		"declaredChecksum": approved,
	})
}

test_download_of_another_port_denied if {
	not allow with input as download({"host": "artifacts.example.com:8443", "declaredChecksum": approved})
}

test_download_over_http_denied if {
	not allow with input as download({"schema": "http", "declaredChecksum": approved})
}

test_download_with_every_fault_says_all if {
	count(deny_msg) == 3 with input as download({"schema": "http", "host": "evil.example"})
}

# Git repositories

test_our_commit_allowed if {
	allow with input as repository("https://github.com/example-org/lib.git", {"isCommitRef": true})
}

test_our_commit_has_no_message if {
	count(deny_msg) == 0 with input as repository("https://github.com/example-org/lib.git", {"isCommitRef": true})
}

test_our_branch_denied if {
	not allow with input as repository("https://github.com/example-org/lib.git", {"ref": "refs/heads/main"})
}

test_our_branch_message if {
	deny_msg == {"Git repository https://github.com/example-org/lib.git must be taken at a full commit, as in https://github.com/example-org/lib.git#<commit>."} with input as repository(
		"https://github.com/example-org/lib.git",
		{"ref": "refs/heads/main"},
	)
}

test_our_repository_is_not_outside if {
	not outside_repository with input as repository("https://github.com/example-org/lib.git", {})
}

test_lookalike_of_ours_is_outside if {
	outside_repository with input as repository("https://github.com/example-org-evil/lib.git", {})
}

test_outside_tag_wants_a_signature if {
	named_tag with input as repository("https://github.com/ext/lib.git", {"ref": "refs/tags/v1.0.0"})
}

test_outside_branch_denied if {
	not allow with input as repository("https://github.com/ext/lib.git", {"ref": "refs/heads/main"})
}

test_outside_branch_message if {
	deny_msg == {"Git repository https://github.com/ext/lib.git must be taken at a signed tag, as in https://github.com/ext/lib.git#refs/tags/v1.0.0."} with input as repository(
		"https://github.com/ext/lib.git",
		{"ref": "refs/heads/main"},
	)
}

test_outside_commit_denied if {
	not allow with input as repository("https://github.com/ext/lib.git", {"isCommitRef": true, "ref": "9fd4a9c8a1b6f6a1e3a0d6a5d0c1b2e3f4a5b6c7"})
}

test_git_elsewhere_denied if {
	not allow with input as repository("https://git.evil.example/lib.git", {"isCommitRef": true})
}

test_git_elsewhere_message if {
	deny_msg == {"Git repository https://git.evil.example/lib.git is not allowed: use one under https://github.com/example-org/, https://github.com/."} with input as repository(
		"https://git.evil.example/lib.git",
		{"isCommitRef": true},
	)
}

test_git_without_tls_denied if {
	not allow with input as repository("http://github.com/example-org/lib.git", {"isCommitRef": true})
}

# What else there is

test_oci_layout_denied if not allow with input as {"ociLayout": {"name": "base", "digest": approved}}

test_oci_layout_message if {
	deny_msg == {"OCI layout base may not be used: push the image to registry.example.com, with provenance."} with input as {"ociLayout": {
		"name": "base",
		"digest": approved,
	}}
}

test_blob_denied if {
	not allow with input as {"blob": {
		"scheme": "docker-image+blob",
		"host": "docker.io",
		"fullRepo": "docker.io/library/alpine",
		"digest": approved,
	}}
}

test_nothing_known_denied if not allow with input as {}

# The whole decision

test_decision_when_allowed if {
	decision == {"allow": true, "deny_msg": set()} with input as download({"declaredChecksum": approved})
}

test_decision_when_denied if {
	not decision.allow with input as download({})
	count(decision.deny_msg) == 1 with input as download({})
}
