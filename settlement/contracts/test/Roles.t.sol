// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IAccessControl} from "@openzeppelin/contracts/access/IAccessControl.sol";
import {IAccessControlDefaultAdminRules} from
    "@openzeppelin/contracts/access/extensions/IAccessControlDefaultAdminRules.sol";
import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";

import {ERC3009} from "@openzeppelin/contracts/token/ERC20/extensions/draft-ERC3009.sol";

import {DemoDollar} from "../src/DemoDollar.sol";
import {ISettlementLedger} from "../src/ISettlementLedger.sol";
import {SettlementLedger} from "../src/SettlementLedger.sol";
import {LedgerTimelock} from "../src/LedgerTimelock.sol";
import {LedgerTest, SlowAdmin} from "./LedgerTest.sol";
import {TestToken} from "./Tokens.sol";
import {bound, vm} from "./Vm.sol";

/// @notice Who may do what, and what a ledger may be made with.
contract RolesTest is LedgerTest {
    uint256 private constant DEVELOPMENT_CHAIN_ID = 31_337;

    function test_every_role_is_asked_for() public {
        bytes32 head = ledger.head();
        expectUnauthorized(ledger.POSTER_ROLE());
        ledger.post(1, head, "w", "p", "m", uint64(START - 1), uint64(START), 0, 0);
        expectUnauthorized(ledger.AUDITOR_ROLE());
        ledger.attest(1, head);
        expectUnauthorized(ledger.GUARDIAN_ROLE());
        ledger.dispute(1, head);
        expectUnauthorized(ledger.GUARDIAN_ROLE());
        ledger.pauseClaims(1);
        expectUnauthorized(ledger.GUARDIAN_ROLE());
        ledger.pausePosting(1);
        expectUnauthorized(ledger.GUARDIAN_ROLE());
        ledger.resumePosting();
        expectUnauthorized(ledger.GUARDIAN_ROLE());
        ledger.resumeClaims();
        expectUnauthorized(bytes32(0));
        ledger.revoke(1);
        expectUnauthorized(bytes32(0));
        ledger.close(ANYONE);
        expectUnauthorized(bytes32(0));
        ledger.recover(token, ANYONE, 1);
        expectUnauthorized(bytes32(0));
        ledger.setQuorum(1);
        expectUnauthorized(bytes32(0));
        ledger.setMaxRate(1);
    }

    function test_no_key_holds_two_roles() public {
        bytes32[3] memory roles = [ledger.POSTER_ROLE(), ledger.AUDITOR_ROLE(), ledger.GUARDIAN_ROLE()];
        address[4] memory keys = [POSTER, AUDITOR, GUARDIAN, ADMIN];
        for (uint256 i = 0; i < 3; ++i) {
            for (uint256 j = 0; j < 4; ++j) {
                if (i == j) continue;
                bytes32 held = j == 3 ? bytes32(0) : roles[j];
                vm.expectRevert(
                    abi.encodeWithSelector(ISettlementLedger.AccountHoldsAnotherRole.selector, keys[j], held)
                );
                vm.prank(ADMIN);
                ledger.grantRole(roles[i], keys[j]);
            }
        }
        vm.prank(ADMIN);
        ledger.revokeRole(roles[0], POSTER);
        vm.prank(ADMIN);
        ledger.grantRole(roles[1], POSTER); // What was given up first may be given anew.
    }

    function test_admin_key_moves_with_the_delay_and_never_to_a_key_with_a_role() public {
        vm.prank(ADMIN);
        ledger.beginDefaultAdminTransfer(POSTER);
        wait(DELAY + 1);
        vm.expectRevert(
            abi.encodeWithSelector(
                ISettlementLedger.AccountHoldsAnotherRole.selector, POSTER, ledger.POSTER_ROLE()
            )
        );
        vm.prank(POSTER);
        ledger.acceptDefaultAdminTransfer();

        address next = address(new SlowAdmin(DELAY));
        vm.prank(ADMIN);
        ledger.beginDefaultAdminTransfer(next);
        uint256 schedule = block.timestamp + DELAY;
        wait(DELAY);
        vm.expectRevert(
            abi.encodeWithSelector(
                IAccessControlDefaultAdminRules.AccessControlEnforcedDefaultAdminDelay.selector, schedule
            )
        );
        vm.prank(next);
        ledger.acceptDefaultAdminTransfer();
        wait(1);
        vm.prank(next);
        ledger.acceptDefaultAdminTransfer();
        vm.assertEq(ledger.defaultAdmin(), next, "the new admin");
    }

    function test_one_key_may_hold_all_roles_on_a_development_chain_only() public {
        vm.expectRevert(
            abi.encodeWithSelector(ISettlementLedger.AccountHoldsAnotherRole.selector, ADMIN, bytes32(0))
        );
        new SettlementLedger(settingsOf(token, DELAY), allFor(ADMIN));
        vm.chainId(DEVELOPMENT_CHAIN_ID);
        ledger = new SettlementLedger(settingsOf(token, 60), allFor(ANYONE));
        vm.assertTrue(ledger.hasRole(ledger.AUDITOR_ROLE(), ANYONE), "auditor, and an admin without a timelock");
    }

    function test_delay_is_two_days_or_a_minute_on_a_development_chain() public {
        expectDelayRefused(48 hours - 1, 48 hours);
        expectDelayRefused(90 days + 1, 48 hours);
        vm.chainId(DEVELOPMENT_CHAIN_ID);
        expectDelayRefused(59, 60);
        vm.assertEq(deploy(token, 60).delay(), 60, "a minute");
    }

    function testFuzz_decimals_are_6_to_18(uint8 decimals) public {
        TestToken other = new TestToken(decimals);
        if (decimals < 6 || decimals > 18) {
            vm.expectRevert(abi.encodeWithSelector(ISettlementLedger.DecimalsOutOfRange.selector, decimals));
        }
        deploy(other, DELAY);
    }

    function test_currency_is_three_capital_letters() public {
        bytes3[4] memory wrong = [bytes3("usd"), bytes3("US"), bytes3("U$D"), bytes3("")];
        for (uint256 i = 0; i < 4; ++i) {
            vm.expectRevert(abi.encodeWithSelector(ISettlementLedger.CurrencyInvalid.selector, wrong[i]));
            inCurrency(wrong[i]);
        }
        ledger = inCurrency("AZZ");
        vm.assertEq(ledger.currency(), bytes32(bytes3("AZZ")), "currency");
    }

    function test_two_ledgers_never_share_a_head() public {
        vm.assertTrue(deploy(token, DELAY).head() != ledger.head(), "the ledger's address is in the genesis");
    }

    function test_the_rate_is_the_admins() public {
        vm.expectEmit(address(ledger));
        emit ISettlementLedger.MaxRateChanged(MONEY * 1 days, 7, ADMIN);
        vm.prank(ADMIN);
        ledger.setMaxRate(7);
        vm.assertEq(ledger.maxRate(), 7, "changed");
    }

    function test_off_a_development_chain_the_admin_is_a_timelock_as_slow_as_a_post() public {
        expectAdminRefused(ANYONE);
        expectAdminRefused(address(token));
        expectAdminRefused(address(new SlowAdmin(DELAY - 1)));
        address[] memory proposers = alone(CAROL);
        address admin = address(new LedgerTimelock(DELAY, proposers, alone(GUARDIAN)));
        ledger = new SettlementLedger(settingsOf(token, DELAY), handsOf(admin, alone(AUDITOR), 1));
        vm.assertEq(ledger.defaultAdmin(), admin, "the timelock");
    }

    function test_the_admin_role_never_moves_to_a_plain_key() public {
        vm.prank(ADMIN);
        ledger.beginDefaultAdminTransfer(ANYONE);
        wait(DELAY + 1);
        vm.expectRevert(abi.encodeWithSelector(ISettlementLedger.AdminNotTimelock.selector, ANYONE, DELAY));
        vm.prank(ANYONE);
        ledger.acceptDefaultAdminTransfer();
    }

    /// @dev What the admin does is announced, waits, and can be cancelled by a guardian meanwhile.
    function test_a_timelock_announces_and_guardians_cancel() public {
        LedgerTimelock admin = new LedgerTimelock(DELAY, alone(CAROL), alone(GUARDIAN));
        ledger = new SettlementLedger(settingsOf(token, DELAY), handsOf(address(admin), alone(AUDITOR), 1));
        bytes memory call = abi.encodeCall(ledger.setMaxRate, (7));
        vm.prank(CAROL);
        admin.schedule(address(ledger), 0, call, bytes32(0), bytes32(0), DELAY);
        (bool early,) = address(admin).call(
            abi.encodeCall(admin.execute, (address(ledger), 0, call, bytes32(0), bytes32(0)))
        );
        vm.assertTrue(!early, "not before its time");
        wait(DELAY);
        admin.execute(address(ledger), 0, call, bytes32(0), bytes32(0));
        vm.assertEq(ledger.maxRate(), 7, "carried out by anyone");

        vm.prank(CAROL);
        admin.schedule(address(ledger), 0, call, bytes32(0), bytes32("again"), DELAY);
        bytes32 id = admin.hashOperation(address(ledger), 0, call, bytes32(0), bytes32("again"));
        vm.prank(GUARDIAN);
        admin.cancel(id);
        vm.assertTrue(!admin.isOperation(id), "cancelled");
    }

    function test_demo_dollars_are_made_by_their_owner() public {
        DemoDollar dollar = new DemoDollar(ADMIN);
        vm.assertEq(dollar.decimals(), 6, "decimals");
        vm.expectRevert(abi.encodeWithSelector(Ownable.OwnableUnauthorizedAccount.selector, ANYONE));
        vm.prank(ANYONE);
        dollar.mint(ANYONE, 1);
        vm.prank(ADMIN);
        dollar.mint(ALICE, 5);
        vm.assertEq(dollar.balanceOf(ALICE), 5, "made");
    }

    function test_demo_dollars_move_by_signature_once() public {
        DemoDollar dollar = new DemoDollar(ADMIN);
        uint256 key = 0xA11CE;
        address holder = vm.addr(key);
        vm.prank(ADMIN);
        dollar.mint(holder, 10);
        bytes32 tag = keccak256(
            "TransferWithAuthorization(address from,address to,uint256 value,uint256 validAfter,uint256 validBefore,bytes32 nonce)"
        );
        bytes32 terms = keccak256(abi.encode(tag, holder, BOB, 4, 0, START + 60, bytes32("nonce")));
        bytes32 digest = keccak256(abi.encodePacked(hex"1901", dollar.DOMAIN_SEPARATOR(), terms));
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(key, digest);
        vm.prank(ANYONE);
        dollar.transferWithAuthorization(holder, BOB, 4, 0, START + 60, "nonce", v, r, s);
        vm.assertEq(dollar.balanceOf(BOB), 4, "sent by another's transaction");
        vm.expectRevert(
            abi.encodeWithSelector(ERC3009.ERC3009UsedAuthorization.selector, holder, bytes32("nonce"))
        );
        dollar.transferWithAuthorization(holder, BOB, 4, 0, START + 60, "nonce", v, r, s);
        bytes32 permit = keccak256(
            "Permit(address owner,address spender,uint256 value,uint256 nonce,uint256 deadline)"
        );
        terms = keccak256(abi.encode(permit, holder, CAROL, 6, 0, START + 60));
        (v, r, s) = vm.sign(key, keccak256(abi.encodePacked(hex"1901", dollar.DOMAIN_SEPARATOR(), terms)));
        dollar.permit(holder, CAROL, 6, START + 60, v, r, s);
        vm.assertEq(dollar.allowance(holder, CAROL), 6, "approved by a signature");
    }

    function allFor(address account) internal pure returns (ISettlementLedger.Hands memory) {
        return ISettlementLedger.Hands(account, account, alone(account), alone(account), 1);
    }

    function inCurrency(bytes3 currency) internal returns (SettlementLedger) {
        ISettlementLedger.Settings memory settings = settingsOf(token, DELAY);
        settings.currency = currency;
        return new SettlementLedger(settings, hands());
    }

    function expectAdminRefused(address admin) internal {
        vm.expectRevert(abi.encodeWithSelector(ISettlementLedger.AdminNotTimelock.selector, admin, DELAY));
        new SettlementLedger(settingsOf(token, DELAY), handsOf(admin, alone(AUDITOR), 1));
    }

    function expectUnauthorized(bytes32 role) internal {
        vm.expectRevert(
            abi.encodeWithSelector(IAccessControl.AccessControlUnauthorizedAccount.selector, ANYONE, role)
        );
        vm.prank(ANYONE);
    }

    function expectDelayRefused(uint48 delay, uint256 least) internal {
        SlowAdmin slow = new SlowAdmin(365 days);
        vm.expectRevert(
            abi.encodeWithSelector(ISettlementLedger.DelayOutOfRange.selector, delay, least, uint256(90 days))
        );
        new SettlementLedger(settingsOf(token, delay), handsOf(address(slow), alone(AUDITOR), 1));
    }
}
