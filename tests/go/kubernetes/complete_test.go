// Whether the suite is whole: every test that the published package has for others to run is run.

package kubernetes

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const published = "k8s.io/apiserver/pkg/storage/testing"

func TestEveryPublishedTestIsRun(t *testing.T) {
	output, err := exec.Command("go", "list", "-mod=readonly", "-f", "{{.Dir}}", published).Output()
	must(t, err)
	wanted := map[string]bool{}
	isTest := regexp.MustCompile(`^Run(Optional)?(Test|Watch|Send)`)
	for _, file := range parse(t, strings.TrimSpace(string(output))) {
		for _, declaration := range file.Decls {
			function, ok := declaration.(*ast.FuncDecl)
			if ok && function.Recv == nil && isTest.MatchString(function.Name.Name) {
				wanted[function.Name.Name] = true
			}
		}
	}
	if len(wanted) < 50 {
		t.Fatalf("%s has only %d tests, so that they must be looked for otherwise", published, len(wanted))
	}
	for _, file := range parse(t, ".") {
		ast.Inspect(file, func(node ast.Node) bool {
			if selector, ok := node.(*ast.SelectorExpr); ok {
				delete(wanted, selector.Sel.Name)
			}
			return true
		})
	}
	for name := range wanted {
		t.Errorf("%s is not run", name)
	}
}

func parse(t *testing.T, dir string) []*ast.File {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "*.go"))
	must(t, err)
	var files []*ast.File
	for _, path := range paths {
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		must(t, err)
		files = append(files, file)
	}
	return files
}
