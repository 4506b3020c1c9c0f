// A finished message by Go's net/smtp: the argument is the file of a job.
package main

import (
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net/smtp"
	"os"
)

type job struct {
	Host, User, Secret, TLS, Auth, Sender, Raw string
	Port                                       int
	Recipients                                 []string
}

// net/smtp has no LOGIN of its own; programs bring one such as this.
type login struct{ user, secret string }

func (a *login) Start(*smtp.ServerInfo) (string, []byte, error) { return "LOGIN", nil, nil }

func (a *login) Next(challenge []byte, more bool) ([]byte, error) {
	switch {
	case !more:
		return nil, nil
	case string(challenge) == "Username:":
		return []byte(a.user), nil
	case string(challenge) == "Password:":
		return []byte(a.secret), nil
	}
	return nil, errors.New("unknown challenge: " + string(challenge))
}

func main() {
	if err := send(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func send(path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var j job
	if err := json.Unmarshal(text, &j); err != nil {
		return err
	}
	message, err := os.ReadFile(j.Raw)
	if err != nil {
		return err
	}
	address := fmt.Sprintf("%s:%d", j.Host, j.Port)
	var auth smtp.Auth
	switch j.Auth {
	case "PLAIN":
		auth = smtp.PlainAuth("", j.User, j.Secret, j.Host)
	case "LOGIN":
		auth = &login{j.User, j.Secret}
	}
	if j.TLS != "implicit" {
		return smtp.SendMail(address, auth, j.Sender, j.Recipients, message)
	}
	return sendOverTLS(address, auth, j, message)
}

// The same, as programs write it for port 465.
func sendOverTLS(address string, auth smtp.Auth, j job, message []byte) error {
	conn, err := tls.Dial("tcp", address, &tls.Config{ServerName: j.Host})
	if err != nil {
		return err
	}
	client, err := smtp.NewClient(conn, j.Host)
	if err != nil {
		return err
	}
	defer client.Close()
	if err := client.Auth(auth); err != nil {
		return err
	}
	if err := client.Mail(j.Sender); err != nil {
		return err
	}
	for _, recipient := range j.Recipients {
		if err := client.Rcpt(recipient); err != nil {
			return err
		}
	}
	content, err := client.Data()
	if err != nil {
		return err
	}
	if _, err := content.Write(message); err != nil {
		return err
	}
	if err := content.Close(); err != nil {
		return err
	}
	return client.Quit()
}
