// Command gateway sends the registers of one meter, a number a line on standard input, to a tallyroot log.
//
//	gateway BROKERS LOG_ID TOPIC MACHINE METER FOLDER
//
// FOLDER keeps the device's key (head -c 32 /dev/urandom > FOLDER/key) and the last reading. A reading is on disk before
// it is sent, and is sent again at the next start: nothing is lost in a crash, and the log knows what it has already.
package main

import (
	"bufio"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

const contentType = "application/json"

type reading struct {
	Machine    string `json:"machine"`
	Meter      string `json:"meter"`
	Boot       int64  `json:"boot"`
	Seq        int64  `json:"seq"`
	ObservedAt int64  `json:"observed_at"` // milliseconds since 1970, UTC
	Register   int64  `json:"register"`    // in the meter's unit
}

func main() {
	if len(os.Args) != 7 {
		log.Fatal("usage: gateway BROKERS LOG_ID TOPIC MACHINE METER FOLDER")
	}
	brokers, logID, topic, machine, meter, folder := os.Args[1], os.Args[2], os.Args[3], os.Args[4], os.Args[5], os.Args[6]
	seed, err := os.ReadFile(filepath.Join(folder, "key"))
	check(err)
	key := ed25519.NewKeyFromSeed(seed)
	fmt.Printf("key-id gw-1, public key %x\n", key.Public()) // for the machine's registration
	client, err := kgo.NewClient(
		kgo.SeedBrokers(strings.Split(brokers, ",")...),
		kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.RecordPartitioner(kgo.StickyKeyPartitioner(nil)), // by murmur2 of the key, as Kafka's Java client
	)
	check(err)
	defer client.Close()
	send := func(value []byte) {
		record := &kgo.Record{Topic: topic, Key: []byte(machine), Value: value, Headers: []kgo.RecordHeader{
			{Key: "content-type", Value: []byte(contentType)},
			{Key: "signature", Value: ed25519.Sign(key, message(logID, machine, value))},
			{Key: "key-id", Value: []byte("gw-1")},
		}}
		check(client.ProduceSync(context.Background(), record).FirstErr()) // retried by the client, in order
	}

	path := filepath.Join(folder, "last.json")
	now := time.Now().UnixMilli() // without a file a boot begins: the quarters of an hour since 2020
	last := reading{Machine: machine, Meter: meter, Boot: now/900_000 - 1_753_152, Seq: now%900_000 - 1}
	if value, err := os.ReadFile(path); err == nil {
		check(json.Unmarshal(value, &last))
		send(value) // perhaps once more: a duplicate
	} else if !os.IsNotExist(err) {
		log.Fatal(err)
	}
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		register, err := strconv.ParseInt(lines.Text(), 10, 64)
		check(err)
		last.Seq++
		if register < last.Register { // the meter began again: a higher boot says that this is no mistake
			last.Boot, last.Seq = last.Boot+1, 0
		}
		last.Register, last.ObservedAt = register, time.Now().UnixMilli()
		value, err := json.Marshal(last)
		check(err)
		keep(path, value)
		send(value)
	}
}

// message is what a device signs: a domain, then five fields, each behind its length.
func message(logID, key string, value []byte) []byte {
	digest := sha256.Sum256(value)
	signed := []byte("tallyroot reading 1\n")
	for _, field := range [][]byte{[]byte(logID), []byte(key), []byte("reading"), []byte(contentType), digest[:]} {
		signed = append(binary.BigEndian.AppendUint64(signed, uint64(len(field))), field...)
	}
	return signed
}

// keep replaces a file so that a crash leaves the old one or the new one, and a loss of power keeps the new one.
func keep(path string, content []byte) {
	file, err := os.OpenFile(path+".new", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	check(err)
	_, err = file.Write(content)
	check(err)
	check(file.Sync())
	check(file.Close())
	check(os.Rename(path+".new", path))
	folder, err := os.Open(filepath.Dir(path))
	check(err)
	defer folder.Close()
	check(folder.Sync())
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
