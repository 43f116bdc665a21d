package main

import (
	"fmt"
	"iter"
	"slices"
)

// all iterates over one of protoreflect's many list types, which predate range
// functions.
func all[T any](list interface {
	Len() int
	Get(int) T
}) iter.Seq[T] {
	return func(yield func(T) bool) {
		for i := range list.Len() {
			if !yield(list.Get(i)) {
				return
			}
		}
	}
}

// sorted writes a list in an order that does not depend on the file's.
func sorted[T any](list interface {
	Len() int
	Get(int) T
}) string {
	var words []string
	for item := range all(list) {
		words = append(words, fmt.Sprint(item))
	}
	slices.Sort(words)
	return fmt.Sprint(words)
}
