// Reads messages, each after a line with its size; writes a line for every leaf: number of the message, its type,
// its decoded content in base64. What is not MIME to the letter ends it.
package main

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net/mail"
	"os"
	"strings"
)

func fail(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func message(number int, reader io.Reader) {
	read, err := mail.ReadMessage(reader)
	fail(err)
	entity(number, read.Header.Get("Content-Type"), read.Header.Get("Content-Transfer-Encoding"), read.Body)
}

func entity(number int, content, encoding string, body io.Reader) {
	if content == "" {
		content = "text/plain"
	}
	kind, parameters, err := mime.ParseMediaType(content)
	fail(err)
	if strings.HasPrefix(kind, "multipart/") {
		parts := multipart.NewReader(body, parameters["boundary"])
		for {
			part, err := parts.NextRawPart()
			if err == io.EOF {
				return
			}
			fail(err)
			entity(number, part.Header.Get("Content-Type"), part.Header.Get("Content-Transfer-Encoding"), part)
		}
	}
	if kind == "message/rfc822" {
		message(number, body)
		return
	}
	switch strings.ToLower(encoding) {
	case "base64":
		body = base64.NewDecoder(base64.StdEncoding, body)
	case "quoted-printable":
		body = quotedprintable.NewReader(body)
	}
	decoded, err := io.ReadAll(body)
	fail(err)
	fmt.Println(number, kind, base64.StdEncoding.EncodeToString(decoded))
}

func main() {
	input := bufio.NewReader(os.Stdin)
	for number := 0; ; number++ {
		var size int
		if _, err := fmt.Fscanf(input, "%d\n", &size); err == io.EOF {
			return
		} else {
			fail(err)
		}
		octets := make([]byte, size)
		_, err := io.ReadFull(input, octets)
		fail(err)
		message(number, bytes.NewReader(octets))
	}
}
