// Users, roles and permissions, as clientv3 uses them. Each test ends with access for everybody.

package clients

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/authpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

const (
	read      = clientv3.PermissionType(clientv3.PermRead)
	write     = clientv3.PermissionType(clientv3.PermWrite)
	readWrite = clientv3.PermissionType(clientv3.PermReadWrite)
)

// Does something until it works, or an attempt whose outcome is unknown has done it: members may be
// killed meanwhile, and who has a password must not be half there.
func insist(t *testing.T, done error, do func(context.Context) error) {
	t.Helper()
	eventually(t, func() error {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := do(ctx); !errors.Is(err, done) {
			return err
		}
		return nil
	})
}

// Enables access control, with root and those users that `users` names, all with their names as
// passwords; a user has the role of the same name.
func (p *place) enableAuth(t *testing.T, users ...string) *clientv3.Client {
	t.Helper()
	for _, name := range append([]string{"root"}, users...) {
		insist(t, rpctypes.ErrRoleAlreadyExist, func(ctx context.Context) error {
			_, err := p.RoleAdd(ctx, name)
			return err
		})
		insist(t, rpctypes.ErrUserAlreadyExist, func(ctx context.Context) error {
			_, err := p.UserAdd(ctx, name, name)
			return err
		})
		insist(t, nil, func(ctx context.Context) error {
			_, err := p.UserGrantRole(ctx, name, name)
			return err
		})
	}
	t.Cleanup(func() { disableAuth(t) })
	insist(t, rpctypes.ErrUserEmpty, func(ctx context.Context) error {
		_, err := p.AuthEnable(ctx)
		return err
	})
	return connectAs(t, "root")
}

// Whatever a test has left of users and roles must not be in the next one's way.
func disableAuth(t *testing.T) {
	insist(t, rpctypes.ErrAuthNotEnabled, func(ctx context.Context) error {
		config := clientv3.Config{Endpoints: endpoints(), Username: "root", Password: "root", DialTimeout: dialTimeout, Logger: zap.NewNop()}
		root, err := clientv3.New(config)
		if err != nil {
			return err
		}
		defer root.Close()
		_, err = root.AuthDisable(ctx)
		return err
	})
	removeUsers(t)
}

func removeUsers(t *testing.T) {
	client := connect(t)
	insist(t, nil, func(ctx context.Context) error {
		users, err := client.UserList(ctx)
		if err != nil {
			return err
		}
		for _, user := range users.Users {
			if _, err := client.UserDelete(ctx, user); err != nil && !errors.Is(err, rpctypes.ErrUserNotFound) {
				return err
			}
		}
		roles, err := client.RoleList(ctx)
		if err != nil {
			return err
		}
		for _, role := range roles.Roles {
			if _, err := client.RoleDelete(ctx, role); err != nil && !errors.Is(err, rpctypes.ErrRoleNotFound) {
				return err
			}
		}
		return nil
	})
}

func connectAs(t *testing.T, name string) *clientv3.Client {
	t.Helper()
	return connect(t, func(config *clientv3.Config) { config.Username, config.Password = name, name })
}

func TestAuthUsersAndRoles(t *testing.T) {
	p := newPlace(t)
	t.Cleanup(func() { removeUsers(t) })
	_, err := p.UserAdd(p.ctx, "one", "secret")
	must(t, err)
	_, err = p.UserAdd(p.ctx, "one", "secret")
	fails(t, err, rpctypes.ErrUserAlreadyExist)
	_, err = p.UserAdd(p.ctx, "", "secret")
	fails(t, err, rpctypes.ErrUserEmpty)
	_, err = p.RoleAdd(p.ctx, "role")
	must(t, err)
	_, err = p.RoleAdd(p.ctx, "role")
	fails(t, err, rpctypes.ErrRoleAlreadyExist)
	_, err = p.RoleGrantPermission(p.ctx, "role", "a", "b", readWrite)
	must(t, err)
	_, err = p.RoleGrantPermission(p.ctx, "role", "c", "", read)
	must(t, err)
	role, err := p.RoleGet(p.ctx, "role")
	must(t, err)
	equal(t, "permissions", len(role.Perm), 2)
	equal(t, "permission", role.Perm[0].PermType, authpb.READWRITE)
	equal(t, "its range", string(role.Perm[0].Key)+string(role.Perm[0].RangeEnd), "ab")
	_, err = p.UserGrantRole(p.ctx, "one", "role")
	must(t, err)
	_, err = p.UserGrantRole(p.ctx, "one", "none")
	fails(t, err, rpctypes.ErrRoleNotFound)
	user, err := p.UserGet(p.ctx, "one")
	must(t, err)
	equal(t, "roles", fmt.Sprint(user.Roles), "[role]")
	users, err := p.UserList(p.ctx)
	must(t, err)
	equal(t, "listed", slices.Contains(users.Users, "one"), true)

	_, err = p.UserChangePassword(p.ctx, "one", "other")
	must(t, err)
	_, err = p.UserRevokeRole(p.ctx, "one", "role")
	must(t, err)
	_, err = p.UserRevokeRole(p.ctx, "one", "role")
	fails(t, err, rpctypes.ErrRoleNotGranted)
	_, err = p.RoleRevokePermission(p.ctx, "role", "a", "b")
	must(t, err)
	_, err = p.RoleRevokePermission(p.ctx, "role", "a", "b")
	fails(t, err, rpctypes.ErrPermissionNotGranted)
	_, err = p.RoleDelete(p.ctx, "role")
	must(t, err)
	_, err = p.RoleGet(p.ctx, "role")
	fails(t, err, rpctypes.ErrRoleNotFound)
	_, err = p.UserDelete(p.ctx, "one")
	must(t, err)
	_, err = p.UserGet(p.ctx, "one")
	fails(t, err, rpctypes.ErrUserNotFound)
}

func TestAuthNeedsRoot(t *testing.T) {
	p := newPlace(t)
	_, err := p.AuthEnable(p.ctx)
	fails(t, err, rpctypes.ErrRootUserNotExist)
	_, err = p.UserAdd(p.ctx, "root", "root")
	must(t, err)
	t.Cleanup(func() { removeUsers(t) })
	_, err = p.AuthEnable(p.ctx)
	fails(t, err, rpctypes.ErrRootRoleNotExist)
	status, err := p.AuthStatus(p.ctx)
	must(t, err)
	equal(t, "enabled", status.Enabled, false)
	_, err = p.Authenticate(p.ctx, "root", "root")
	fails(t, err, rpctypes.ErrAuthNotEnabled)
}

func TestAuthEnabled(t *testing.T) {
	p := newPlace(t)
	p.put(t, "a", "1")
	root := p.enableAuth(t, "guest")
	_, err := p.Get(p.ctx, p.key("a"))
	fails(t, err, rpctypes.ErrUserEmpty)
	wrong := clientv3.Config{Endpoints: endpoints(), Username: "root", Password: "wrong", DialTimeout: dialTimeout}
	_, err = clientv3.New(wrong)
	fails(t, err, rpctypes.ErrAuthFailed)
	_, err = root.Authenticate(p.ctx, "guest", "wrong")
	fails(t, err, rpctypes.ErrAuthFailed)
	token, err := root.Authenticate(p.ctx, "guest", "guest")
	must(t, err)
	if token.Token == "" {
		t.Fatal("no token")
	}
	status, err := root.AuthStatus(p.ctx)
	must(t, err)
	equal(t, "enabled", status.Enabled, true)
	_, err = root.Get(p.ctx, p.key("a"))
	must(t, err)

	guest := connectAs(t, "guest")
	_, err = guest.Get(p.ctx, p.key("a"))
	fails(t, err, rpctypes.ErrPermissionDenied)
	_, err = guest.UserAdd(p.ctx, "other", "other")
	fails(t, err, rpctypes.ErrPermissionDenied)
	_, err = guest.UserGet(p.ctx, "guest")
	must(t, err)
	_, err = guest.UserGet(p.ctx, "root")
	fails(t, err, rpctypes.ErrPermissionDenied)
	_, err = root.UserDelete(p.ctx, "root")
	fails(t, err, rpctypes.ErrInvalidAuthMgmt)
}

func TestAuthPermissions(t *testing.T) {
	p := newPlace(t)
	lease := p.grant(t, 600)
	p.put(t, "secret", "1", clientv3.WithLease(lease))
	p.put(t, "in/a", "1")
	root := p.enableAuth(t, "guest")
	prefix := p.key("in/")
	_, err := root.RoleGrantPermission(p.ctx, "guest", prefix, clientv3.GetPrefixRangeEnd(prefix), readWrite)
	must(t, err)
	_, err = root.RoleGrantPermission(p.ctx, "guest", p.key("read"), "", read)
	must(t, err)
	_, err = root.RoleGrantPermission(p.ctx, "guest", p.key("write"), "", write)
	must(t, err)
	guest := connectAs(t, "guest")

	allowed := func(err error) { t.Helper(); must(t, err) }
	denied := func(err error) { t.Helper(); fails(t, err, rpctypes.ErrPermissionDenied) }
	_, err = guest.Put(p.ctx, prefix+"b", "1")
	allowed(err)
	_, err = guest.Get(p.ctx, prefix, clientv3.WithPrefix())
	allowed(err)
	_, err = guest.Get(p.ctx, p.prefix, clientv3.WithPrefix())
	denied(err)
	_, err = guest.Get(p.ctx, p.key("read"))
	allowed(err)
	_, err = guest.Put(p.ctx, p.key("read"), "1")
	denied(err)
	_, err = guest.Put(p.ctx, p.key("write"), "1")
	allowed(err)
	_, err = guest.Put(p.ctx, p.key("write"), "1", clientv3.WithPrevKV())
	denied(err)
	_, err = guest.Get(p.ctx, p.key("write"))
	denied(err)
	_, err = guest.Delete(p.ctx, p.key("secret"))
	denied(err)
	_, err = guest.Txn(p.ctx).If(clientv3.Compare(clientv3.Value(p.key("secret")), "=", "1")).Commit()
	denied(err)
	_, err = guest.Txn(p.ctx).Then(clientv3.OpGet(prefix), clientv3.OpPut(p.key("secret"), "2")).Commit()
	denied(err)
	_, err = guest.Revoke(p.ctx, lease)
	denied(err)
	refused := next(t, "the answer to a watch", guest.Watch(p.ctx, p.key("secret")))
	equal(t, "the watch is canceled", refused.Canceled, true)

	// A watch is judged by what the member knows that it is asked of, which may be a little behind.
	var watched clientv3.WatchChan
	eventually(t, func() error {
		watched = guest.Watch(p.ctx, prefix, clientv3.WithPrefix(), clientv3.WithCreatedNotify())
		response := next(t, "the watch", watched)
		return response.Err()
	})
	_, err = guest.Delete(p.ctx, prefix+"b")
	allowed(err)
	equal(t, "event", next(t, "the delete", watched).Events[0].Type, clientv3.EventTypeDelete)

	_, err = root.RoleRevokePermission(p.ctx, "guest", prefix, clientv3.GetPrefixRangeEnd(prefix))
	must(t, err)
	_, err = guest.Put(p.ctx, prefix+"b", "2")
	denied(err)
}

// A client asks for a new token by itself when its own is not valid any more.
func TestAuthTokenIsRefreshed(t *testing.T) {
	p := newPlace(t)
	root := p.enableAuth(t, "guest")
	_, err := root.RoleGrantPermission(p.ctx, "guest", p.key("a"), "", readWrite)
	must(t, err)
	guest := connectAs(t, "guest")
	_, err = guest.Put(p.ctx, p.key("a"), "1")
	must(t, err)
	// Whatever changes who may do what makes simple tokens of users invalid, or of an old revision.
	_, err = root.UserChangePassword(p.ctx, "guest", "changed")
	must(t, err)
	_, err = guest.Put(p.ctx, p.key("a"), "2")
	if err == nil {
		t.Fatal("a user whose password was changed goes on")
	}
	_, err = root.UserChangePassword(p.ctx, "guest", "guest")
	must(t, err)
	eventually(t, func() error {
		_, err := guest.Put(p.ctx, p.key("a"), "3")
		return err
	})
	for i := range 5 {
		_, err = root.RoleAdd(p.ctx, fmt.Sprint("more", i))
		must(t, err)
		_, err = guest.Put(p.ctx, p.key("a"), fmt.Sprint(i))
		must(t, err)
		_, err = root.Get(p.ctx, p.key("a"))
		must(t, err)
	}
}

func TestAuthDisabled(t *testing.T) {
	p := newPlace(t)
	root := p.enableAuth(t, "guest")
	guest := connectAs(t, "guest")
	_, err := guest.Get(p.ctx, p.key("a"))
	fails(t, err, rpctypes.ErrPermissionDenied)
	_, err = guest.AuthDisable(p.ctx)
	fails(t, err, rpctypes.ErrPermissionDenied)
	_, err = root.AuthDisable(p.ctx)
	must(t, err)
	// Clients with tokens, and those without, do all again.
	eventually(t, func() error {
		ctx, cancel := context.WithTimeout(p.ctx, 5*time.Second)
		defer cancel()
		_, err := guest.Put(ctx, p.key("a"), "1")
		return err
	})
	p.expect(t, "a=1", "a")
	status, err := p.AuthStatus(p.ctx)
	must(t, err)
	equal(t, "enabled", status.Enabled, false)
}
