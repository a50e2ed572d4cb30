package main

import (
	"errors"
	"slices"
	"strings"

	gwpb "github.com/moby/buildkit/frontend/gateway/pb"
	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"
)

const predicateType = "in-toto.io/predicate-type"

// resolve answers a request as a daemon does that has this metadata: only what
// was asked for, and nothing kept from earlier answers.
func (m Metadata) resolve(req *gwpb.ResolveSourceMetaRequest) (*gwpb.ResolveSourceMetaResponse, error) {
	out := &gwpb.ResolveSourceMetaResponse{Source: req.Source}
	scheme, _, _ := strings.Cut(strings.ToLower(req.Source.Identifier), "://")
	switch scheme {
	case "docker-image":
		if m.Image == nil {
			return nil, errors.New("resolve: the case has no image metadata")
		}
		out.Image = m.Image.response(req.Image)
	case "git":
		if m.Git == nil {
			return nil, errors.New("resolve: the case has no git metadata")
		}
		out.Git = m.Git.response(req.Git != nil && req.Git.ReturnObject)
	case "http", "https":
		if m.HTTP == nil {
			return nil, errors.New("resolve: the case has no http metadata")
		}
		out.HTTP = m.HTTP.response(req.HTTP)
	default:
		return nil, errors.New("resolve: nothing is known about a source of scheme " + scheme)
	}
	return out, nil
}

// all is what a daemon would hand over if everything had been asked for.
func (m Metadata) all(source *pb.SourceOp) *gwpb.ResolveSourceMetaResponse {
	out := &gwpb.ResolveSourceMetaResponse{Source: source}
	scheme, _, _ := strings.Cut(strings.ToLower(source.Identifier), "://")
	switch {
	case scheme == "docker-image" && m.Image != nil:
		out.Image = m.Image.response(nil)
	case scheme == "git" && m.Git != nil:
		out.Git = m.Git.response(true)
	case (scheme == "http" || scheme == "https") && m.HTTP != nil:
		out.HTTP = m.HTTP.response(nil)
	}
	return out
}

// response answers an image request; none at all means everything.
func (m *ImageMetadata) response(req *gwpb.ResolveSourceImageRequest) *gwpb.ResolveSourceImageResponse {
	out := &gwpb.ResolveSourceImageResponse{}
	if req == nil || !req.NoConfig {
		out.Digest, out.Config = m.Digest, m.Config
	}
	if req == nil || req.AttestationChain {
		out.Digest = m.Digest
		// An index that attests nothing still has a root.
		chain := &AttestationChain{Root: m.Digest}
		if m.Chain != nil {
			chain = m.Chain
		}
		out.AttestationChain = chain.response(req)
	}
	return out
}

func (c *AttestationChain) response(req *gwpb.ResolveSourceImageRequest) *gwpb.AttestationChain {
	out := &gwpb.AttestationChain{
		Root:                c.Root,
		ImageManifest:       c.ImageManifest,
		AttestationManifest: c.AttestationManifest,
		SignatureManifests:  c.SignatureManifests,
		Blobs:               map[string]*gwpb.Blob{},
	}
	for dgst, blob := range c.Blobs {
		if pt := blob.Annotations[predicateType]; pt != "" && req != nil && !slices.Contains(req.ResolveAttestations, pt) {
			continue
		}
		out.Blobs[dgst] = &gwpb.Blob{
			Descriptor_: &gwpb.Descriptor{
				MediaType:   blob.MediaType,
				Digest:      dgst,
				Size:        int64(len(blob.Data)),
				Annotations: blob.Annotations,
			},
			Data: blob.Data,
		}
	}
	return out
}

func (m *GitMetadata) response(objects bool) *gwpb.ResolveSourceGitResponse {
	out := &gwpb.ResolveSourceGitResponse{
		Checksum:       m.Checksum,
		Ref:            m.Ref,
		CommitChecksum: m.CommitChecksum,
	}
	if objects {
		out.CommitObject, out.TagObject = m.CommitObject, m.TagObject
	}
	return out
}

func (m *HTTPMetadata) response(req *gwpb.ResolveSourceHTTPRequest) *gwpb.ResolveSourceHTTPResponse {
	out := &gwpb.ResolveSourceHTTPResponse{
		Checksum: digest.FromBytes(m.Content).String(),
		Filename: m.Filename,
	}
	if req != nil && req.ChecksumRequest != nil {
		algorithm := map[gwpb.ChecksumRequest_ChecksumAlgo]digest.Algorithm{
			gwpb.ChecksumRequest_CHECKSUM_ALGO_SHA256: digest.SHA256,
			gwpb.ChecksumRequest_CHECKSUM_ALGO_SHA384: digest.SHA384,
			gwpb.ChecksumRequest_CHECKSUM_ALGO_SHA512: digest.SHA512,
		}[req.ChecksumRequest.Algo]
		out.ChecksumResponse = &gwpb.ChecksumResponse{
			Digest: algorithm.FromBytes(slices.Concat(m.Content, req.ChecksumRequest.Suffix)).String(),
			Suffix: req.ChecksumRequest.Suffix,
		}
	}
	return out
}
