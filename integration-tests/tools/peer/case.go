package main

import (
	"encoding/json"
	"fmt"
	"os"

	"github.com/docker/buildx/policy"
)

// Case is one conformance case: a source, the policy that judges it, the
// metadata a resolver would find, and the answer it should get.
type Case struct {
	Name     string            `json:"name"`
	About    string            `json:"about,omitempty"`
	Policies []string          `json:"policies"`
	Files    map[string]string `json:"files"`
	Env      policy.Env        `json:"env,omitzero"`
	Platform string            `json:"platform,omitempty"`
	Source   Source            `json:"source"`
	Metadata Metadata          `json:"metadata,omitzero"`
	Expect   *Expect           `json:"expect,omitempty"`
}

// Source is the SourceOp as the daemon hands it over.
type Source struct {
	Identifier string            `json:"identifier"`
	Attrs      map[string]string `json:"attrs,omitempty"`
}

// Metadata is what can be resolved, by kind; a kind that is absent is an error
// to whoever asks for it.
type Metadata struct {
	Image *ImageMetadata `json:"image,omitempty"`
	Git   *GitMetadata   `json:"git,omitempty"`
	HTTP  *HTTPMetadata  `json:"http,omitempty"`
}

// ImageMetadata is a registry's word on an image.
type ImageMetadata struct {
	Digest string            `json:"digest"`
	Config json.RawMessage   `json:"config,omitempty"`
	Chain  *AttestationChain `json:"attestation_chain,omitempty"`
}

// AttestationChain is an image index with its attestation manifests and blobs.
type AttestationChain struct {
	Root                string          `json:"root"`
	ImageManifest       string          `json:"image_manifest"`
	AttestationManifest string          `json:"attestation_manifest"`
	SignatureManifests  []string        `json:"signature_manifests,omitempty"`
	Blobs               map[string]Blob `json:"blobs,omitempty"`
}

// Blob is one blob of a chain with its descriptor.
type Blob struct {
	MediaType   string            `json:"media_type"`
	Annotations map[string]string `json:"annotations,omitempty"`
	Data        []byte            `json:"data"`
}

// GitMetadata is a remote's answer, objects raw and without header.
type GitMetadata struct {
	Checksum       string `json:"checksum"`
	Ref            string `json:"ref"`
	CommitChecksum string `json:"commit_checksum"`
	CommitObject   []byte `json:"commit_object,omitempty"`
	TagObject      []byte `json:"tag_object,omitempty"`
}

// HTTPMetadata is the body that a URL serves.
type HTTPMetadata struct {
	Content  []byte `json:"content"`
	Filename string `json:"filename"`
}

// Expect is the answer a case should get.
type Expect struct {
	Action       Actions  `json:"action"`
	DenyMessages []string `json:"deny_messages,omitempty"`
	Update       *Source  `json:"update,omitempty"`
	Requests     []string `json:"requests"`
}

// Actions holds the answers that will do: one word in JSON, or a list of them.
type Actions []string

// UnmarshalJSON reads "ALLOW" as well as ["DENY", "ERROR"].
func (a *Actions) UnmarshalJSON(dt []byte) error {
	var one string
	if err := json.Unmarshal(dt, &one); err == nil {
		*a = Actions{one}
		return nil
	}
	var many []string
	if err := json.Unmarshal(dt, &many); err != nil {
		return fmt.Errorf("action: neither a string nor a list of strings: %w", err)
	}
	*a = many
	return nil
}

// MarshalJSON writes a single answer as one word.
func (a Actions) MarshalJSON() ([]byte, error) {
	if len(a) == 1 {
		return json.Marshal(a[0])
	}
	return json.Marshal([]string(a))
}

func readCases(file string) ([]Case, error) {
	dt, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var cases []Case
	if err := json.Unmarshal(dt, &cases); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return cases, nil
}
