// What Go's own packages read in a composed message: net/mail, mime, mime/multipart and mime/quotedprintable.
//
// In: a line of decimal digits, then so many octets of a message; again and again. Out: a line of JSON for each.
package main

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net/mail"
	"net/textproto"
	"os"
	"strconv"
	"strings"
)

type part struct {
	Type, Charset, Disposition, Filename, ID string
	Content                                  []byte
}

type read struct {
	Error   string
	Header  map[string][]string
	Boxes   map[string][][2]string
	Subject string
	Parts   []part
}

func main() {
	in, out := bufio.NewReader(os.Stdin), json.NewEncoder(os.Stdout)
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		size, err := strconv.Atoi(strings.TrimSpace(line))
		if err != nil {
			return
		}
		message := make([]byte, size)
		if _, err := io.ReadFull(in, message); err != nil {
			return
		}
		found := read{Boxes: map[string][][2]string{}, Header: map[string][]string{}}
		if err := found.parse(message); err != nil {
			found.Error = err.Error()
		}
		if out.Encode(found) != nil {
			return
		}
	}
}

func (found *read) parse(content []byte) error {
	message, err := mail.ReadMessage(bytes.NewReader(content))
	if err != nil {
		return err
	}
	words := new(mime.WordDecoder)
	for name, values := range message.Header {
		for _, value := range values {
			shown, err := words.DecodeHeader(value)
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			found.Header[name] = append(found.Header[name], shown)
		}
	}
	found.Subject = strings.Join(found.Header["Subject"], "\n")
	for _, name := range []string{"From", "To", "Cc", "Reply-To"} {
		value := message.Header.Get(name)
		if value == "" {
			continue
		}
		boxes, err := mail.ParseAddressList(value)
		if err != nil && strings.Contains(value, "@[") { // Go 1.19 knows no domain literals
			continue
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		for _, box := range boxes {
			found.Boxes[name] = append(found.Boxes[name], [2]string{box.Name, box.Address})
		}
	}
	return found.walk(textproto.MIMEHeader(message.Header), message.Body)
}

func (found *read) walk(header textproto.MIMEHeader, body io.Reader) error {
	kind, parameters, err := mime.ParseMediaType(header.Get("Content-Type"))
	if err != nil {
		return fmt.Errorf("Content-Type: %w", err)
	}
	if strings.HasPrefix(kind, "multipart/") {
		parts := multipart.NewReader(body, parameters["boundary"])
		for {
			one, err := parts.NextRawPart()
			if err == io.EOF {
				return nil
			}
			if err != nil {
				return err
			}
			if err := found.walk(one.Header, one); err != nil {
				return err
			}
		}
	}
	leaf := part{Type: kind, Charset: parameters["charset"], ID: strings.Trim(header.Get("Content-ID"), "<>")}
	if given := header.Get("Content-Disposition"); given != "" {
		disposition, parameters, err := mime.ParseMediaType(given)
		if err != nil {
			return fmt.Errorf("Content-Disposition: %w", err)
		}
		leaf.Disposition, leaf.Filename = disposition, parameters["filename"]
	}
	switch encoding := header.Get("Content-Transfer-Encoding"); encoding {
	case "base64":
		body = base64.NewDecoder(base64.StdEncoding, body)
	case "quoted-printable":
		body = quotedprintable.NewReader(body)
	case "7bit":
	default:
		return fmt.Errorf("Content-Transfer-Encoding: %q", encoding)
	}
	if leaf.Content, err = io.ReadAll(body); err != nil {
		return err
	}
	found.Parts = append(found.Parts, leaf)
	return nil
}
